"""Which texts calibrate, and which are held out to measure the result."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from importlib import resources
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np

from nimbed._loading.build import SHORT
from nimbed._text.text_files import texts_of
from nimbed._types import Pair, TokenBatch
from nimbed.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from nimbed._types import Int32Array

SHIPPED = "nimbed: Python Enhancement Proposals (public domain), the Rust book in Chinese (MIT)"
_HELD_OUT = 128
# Of so many texts that measure, one ranks what is made better (a second pass, a layer back in fp32), so that the
# held-out ones judge it unseen.
_ONE_RANKS = 9
# Tokens of texts that are long: where a network takes more than SHORT, texts are joined until they have so many. The
# tokens that measure grow by a fifth, and those that calibrate native weights hardly.
_LONG_HELD_OUT = (1024, 2048, 4096)
_LONG_CALIBRATING = (1024, 2048)


@dataclass(frozen=True, kw_only=True)
class CalibrationSet:
    """Token ids of texts, each kind whole first, then an excerpt of each in the same order.

    Attributes:
        calibrate: set the ranges of activations.
        held_out: measure the result; its whole texts are the documents, its excerpts the queries.
        long: calibrate as well, whole: what their positions, and attention over so many tokens, bring about.
        ranking: tell which products or layers hurt, where some are made better. No text is in two of the three.
        record: for the manifest.
        joined: how many of the whole texts that are held out were joined so that they are long; they come last.
    """

    calibrate: list[Int32Array]
    held_out: list[Int32Array]
    ranking: list[Int32Array]
    record: dict[str, Any]
    long: list[Int32Array] = field(default_factory=list)
    joined: int = 0

    def within(self, tokens: float) -> CalibrationSet:
        """With every n-th held-out text, so that they have about so many tokens.

        Those that were joined stay, where one alone is not more than a fifth of that.
        """
        whole, step = len(self.held_out) // 2, max(1, round(sum(map(len, self.held_out)) / tokens))
        kept = list(range(0, whole - self.joined, step))
        kept += [at for at in range(whole - self.joined, whole) if 5 * len(self.held_out[at]) <= tokens]
        own, shipped = self.record["held_out"], self.record["held_out_shipped"]
        mine, all_kept = (len(range(0, count, step)) for count in (own, own + shipped))  # the user's come first
        return replace(
            self,
            held_out=[self.held_out[at + half] for half in (0, whole) for at in kept],
            record=self.record | {"held_out": mine, "held_out_shipped": all_kept - mine},
        )


def read_texts(path: Path | None, field: str = "text") -> list[str]:
    """The user's texts, or for None those that nimbed ships; blank ones and repeated ones are left out.

    Raises:
        InputError: names file and line where no text stands.
    """
    if path is not None:
        texts = list(dict.fromkeys(text for text in texts_of(path, field) if text.strip()))
        if not texts:
            raise InputError(f"calibration file {path} holds no texts")
        return texts
    shipped = resources.files("nimbed.quantization") / "data" / "calibration.jsonl.gz"
    with resources.as_file(shipped) as file:
        return list(texts_of(file))


def choose(
    texts: Sequence[str],
    tokenize: Callable[[Sequence[str]], Sequence[Int32Array]],
    *,
    count: int,
    seed: int,
    origin: str,
    others: Sequence[str] = (),
    longest: int = SHORT,
) -> CalibrationSet:
    """A seeded choice stratified by length: one text from each of ``count`` equal slices of the sorted lengths.

    Real lengths, no padding. Each chosen text comes once whole and once as an excerpt of a query's length, since short
    texts have ranges of their own. Those that measure are chosen alike: from the texts that are left, and half of them
    (or more, where fewer are left) from ``others``, so that texts which are all alike cannot hide what they spoil.
    Where there are neither, the calibration texts measure, and the record says so.

    Texts of up to ``longest`` tokens are joined from those that calibrate, and from those that are held out, where that
    is more than SHORT and none is as long.
    """
    rng = np.random.default_rng(seed)
    known = set(texts)
    everything = [*texts, *(text for text in others if text not in known)]
    sequences = list(tokenize(everything))
    by_length = np.argsort([len(s) for s in sequences], kind="stable")
    mine = by_length < len(texts)
    chosen = _one_of_each_slice(by_length[mine], count, rng)
    left = by_length[mine & ~np.isin(by_length, chosen)]
    measure = _measuring(left, by_length[~mine], rng)
    ranks = np.arange(len(measure)) % _ONE_RANKS == _ONE_RANKS - 1
    held_out = measure[~ranks]
    long = tokenize(_joined(everything, sequences, chosen, _LONG_CALIBRATING, longest))
    own = int((held_out < len(texts)).sum())
    if more := _joined(everything, sequences, held_out, _LONG_HELD_OUT, longest):
        held_out = np.concatenate([held_out, len(everything) + np.arange(len(more))])
        everything += more
        sequences += tokenize(more)

    def with_excerpts(indices: np.ndarray) -> list[Int32Array]:
        return [*(sequences[i] for i in indices), *tokenize([excerpt(everything[i], rng) for i in indices])]

    calibrate = with_excerpts(chosen)
    seen = with_excerpts(held_out) if len(held_out) else calibrate
    return CalibrationSet(
        calibrate=calibrate,
        held_out=seen,
        ranking=with_excerpts(measure[ranks]) if ranks.any() else seen,
        long=list(long),
        record={
            "origin": origin,
            "sha256": hashlib.sha256("\0".join(texts[i] for i in chosen).encode("utf-8", "surrogatepass")).hexdigest(),
            "count": len(chosen),
            "seed": seed,
            "tokens": sum(map(len, calibrate)),
            "held_out": own,
            "held_out_shipped": len(held_out) - len(more) - own,
        },
        joined=len(more),
    )


def _joined(
    texts: Sequence[str], sequences: Sequence[Int32Array], chosen: np.ndarray, lengths: Sequence[int], longest: int
) -> list[str]:
    """Of some of the texts, those that are longer than all of them: in turn joined, until they have so many tokens."""
    have = max((len(sequences[i]) for i in chosen), default=longest)
    made, left = [], cycle(chosen[::-1].tolist())  # the longest first
    for length in lengths:
        parts: list[int] = []
        while have < length <= longest and sum(len(sequences[i]) for i in parts) < length:
            parts.append(next(left))
        if parts:
            made.append("\n\n".join(texts[i] for i in parts))
    return made


def _measuring(left: np.ndarray, others: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Numbers of the texts that measure: half from each side, more from the others where few are left."""
    wanted = _HELD_OUT * _ONE_RANKS // (_ONE_RANKS - 1)
    own = _one_of_each_slice(left, wanted // 2 if len(others) else wanted, rng)
    return np.concatenate([own, _one_of_each_slice(others, wanted - len(own), rng)])


def pairs_of(texts: Sequence[str], *, seed: int) -> list[Pair]:
    """Each text as a document with an excerpt as its query: its own, or in turn one of the text before it.

    What a cross-encoder sees is mostly near misses, and the text before is one.
    """
    rng = np.random.default_rng(seed)
    return [Pair(excerpt(texts[at - at % 2], rng), text) for at, text in enumerate(texts)]


def excerpt(text: str, rng: np.random.Generator) -> str:
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
    slices = np.array_split(order, min(count, len(order))) if len(order) else []
    return np.array([rng.choice(s) for s in slices], np.int64)


def one_row(sequence: Int32Array, input_names: Iterable[str]) -> dict[str, np.ndarray]:
    """A network's inputs for a single text or pair, ``[1, tokens]``."""
    values = TokenBatch.from_sequences([sequence]).padded(len(sequence))
    return {name: values[name] for name in input_names}
