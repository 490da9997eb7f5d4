"""Which texts calibrate, and which are held out to measure the result."""

from __future__ import annotations

import gzip
import hashlib
import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nimbed._types import TokenBatch
from nimbed.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

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
    """Texts of a ``.jsonl`` (field "text") or ``.txt`` (one a line) file, ``.gz`` too; None: the shipped extract.

    Raises:
        InputError: names file and line where something else stands.
    """
    if path is None:
        shipped = resources.files("nimbed.quantization") / "data" / "calibration.jsonl.gz"
        return _parse(gzip.decompress(shipped.read_bytes()).decode("utf-8").splitlines(), "calibration.jsonl.gz", jsonl=True)
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8") as file:
            lines = file.read().splitlines()
    except (OSError, UnicodeDecodeError) as err:
        raise InputError(f"calibration file {path} cannot be read: {err}") from err
    texts = _parse(lines, str(path), jsonl=".jsonl" in path.suffixes)
    if not texts:
        raise InputError(f"calibration file {path} holds no texts")
    return texts


def _parse(lines: Iterable[str], name: str, *, jsonl: bool) -> list[str]:
    if not jsonl:
        return [line for line in lines if line.strip()]
    texts: list[str] = []
    for number, line in enumerate(lines, 1):
        try:
            text = json.loads(line)["text"]
        except (ValueError, KeyError, TypeError) as err:
            raise InputError(f'{name}, line {number}: not a JSON object with "text" ({err})') from err
        if not isinstance(text, str):
            raise InputError(f'{name}, line {number}: "text" is {type(text).__name__}, not a string')
        texts.append(text)
    return texts


def choose(sequences: Sequence[Int32Array], *, count: int, seed: int, origin: str, texts: Sequence[str]) -> CalibrationSet:
    """A seeded choice stratified by length: one text from each of ``count`` equal slices of the sorted lengths.

    Real lengths, no padding. Held-out texts are chosen alike from those that are left; where none is left,
    the calibration texts measure, and the record says so.
    """
    rng = np.random.default_rng(seed)
    by_length = np.argsort([len(s) for s in sequences], kind="stable")
    chosen = _one_of_each_slice(by_length, count, rng)
    left = np.array([i for i in by_length if i not in set(chosen.tolist())], np.int64)
    held_out = _one_of_each_slice(left, _HELD_OUT, rng) if len(left) else chosen
    digest = hashlib.sha256("\0".join(texts[i] for i in chosen).encode("utf-8", "surrogatepass")).hexdigest()
    record = {
        "origin": origin,
        "sha256": digest,
        "count": len(chosen),
        "seed": seed,
        "tokens": int(sum(len(sequences[i]) for i in chosen)),
        "held_out": len(held_out) if len(left) else 0,
    }
    return CalibrationSet(
        calibrate=[sequences[i] for i in chosen], held_out=[sequences[i] for i in held_out], record=record
    )


def _one_of_each_slice(order: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:  # type: ignore[type-arg]
    slices = np.array_split(order, min(count, len(order)))
    return np.array([rng.choice(s) for s in slices], np.int64)


def one_row(sequence: Int32Array, input_names: Iterable[str]) -> dict[str, np.ndarray]:  # type: ignore[type-arg]
    """A network's inputs for a single text, ``[1, tokens]``."""
    ids = TokenBatch.from_sequences([sequence]).ids.astype(np.int64)[None]
    values = {
        "input_ids": ids,
        "attention_mask": np.ones_like(ids),
        "token_type_ids": np.zeros_like(ids),
        "position_ids": np.arange(ids.shape[1], dtype=np.int64)[None],
    }
    return {name: values[name] for name in input_names}
