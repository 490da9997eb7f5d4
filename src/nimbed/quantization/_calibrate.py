"""Which texts calibrate, and which are held out to measure the result."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

import numpy as np

from nimbed._inputs import read_lines
from nimbed._types import Pair, TokenBatch
from nimbed.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from nimbed._types import Int32Array

SHIPPED = "nimbed: extract of Python Enhancement Proposals (public domain)"
_HELD_OUT = 64


@dataclass(frozen=True, kw_only=True)
class CalibrationSet:
    """Token ids that calibrate and token ids that measure, with the record for the manifest."""

    calibrate: list[Int32Array]
    held_out: list[Int32Array]
    record: dict[str, object]


def read_texts(path: Path | None) -> list[str]:
    """The user's texts, or for None the extract that nimbed ships.

    Raises:
        InputError: names file and line where no text stands.
    """
    if path is not None:
        texts = list(read_lines(path))
        if not texts:
            raise InputError(f"calibration file {path} holds no texts")
        return texts
    shipped = resources.files("nimbed.quantization") / "data" / "calibration.jsonl.gz"
    with resources.as_file(shipped) as file:
        return list(read_lines(file))


def choose(
    texts: Sequence[str],
    tokenize: Callable[[Sequence[str]], Sequence[Int32Array]],
    *,
    count: int,
    seed: int,
    origin: str,
) -> CalibrationSet:
    """A seeded choice stratified by length: one text from each of ``count`` equal slices of the sorted lengths.

    Real lengths, no padding. Each chosen text comes once whole and once as an excerpt of a query's length, since short
    texts have ranges of their own. Held-out texts are chosen alike from those that are left; where none is left,
    the calibration texts measure, and the record says so.
    """
    rng = np.random.default_rng(seed)
    sequences = tokenize(texts)
    by_length = np.argsort([len(s) for s in sequences], kind="stable")
    chosen = _one_of_each_slice(by_length, count, rng)
    left = np.array([i for i in by_length if i not in set(chosen.tolist())], np.int64)
    held_out = _one_of_each_slice(left, _HELD_OUT, rng) if len(left) else chosen

    def with_excerpts(indices: np.ndarray) -> list[Int32Array]:
        return [*(sequences[i] for i in indices), *tokenize([_excerpt(texts[i], rng) for i in indices])]

    calibrate, measure = with_excerpts(chosen), with_excerpts(held_out)
    digest = hashlib.sha256("\0".join(texts[i] for i in chosen).encode("utf-8", "surrogatepass")).hexdigest()
    record = {
        "origin": origin,
        "sha256": digest,
        "count": len(chosen),
        "seed": seed,
        "tokens": sum(map(len, calibrate)),
        "held_out": len(held_out) if len(left) else 0,
    }
    return CalibrationSet(calibrate=calibrate, held_out=measure, record=record)


def pairs_of(texts: Sequence[str], *, seed: int) -> list[Pair]:
    """Each text as a document with an excerpt as its query: its own, or in turn one of the text before it.

    What a cross-encoder sees is mostly near misses, and the text before is one.
    """
    rng = np.random.default_rng(seed)
    return [Pair(_excerpt(texts[at - at % 2], rng), text) for at, text in enumerate(texts)]


def _excerpt(text: str, rng: np.random.Generator) -> str:
    """A stretch of 20 to 160 characters, of whole words where there are spaces."""
    size = int(rng.integers(20, 161))
    start = int(rng.integers(0, max(1, len(text) - size + 1)))
    stretch = text[start : start + size]
    if start:
        stretch = stretch.partition(" ")[2] or stretch
    if start + size < len(text):
        stretch = stretch.rpartition(" ")[0] or stretch
    return stretch


def _one_of_each_slice(order: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    slices = np.array_split(order, min(count, len(order)))
    return np.array([rng.choice(s) for s in slices], np.int64)


def one_row(sequence: Int32Array, input_names: Iterable[str]) -> dict[str, np.ndarray]:
    """A network's inputs for a single text or pair, ``[1, tokens]``."""
    values = TokenBatch.from_sequences([sequence]).padded(len(sequence))
    return {name: values[name] for name in input_names}
