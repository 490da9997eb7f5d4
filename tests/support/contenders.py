"""Contenders of a bench that need no model, and the texts they run on."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers

from nimbed.bench import Texts
from nimbed.bench.network import Network
from nimbed.bench.ring import Ring

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nimbed._types import Float32Array
    from nimbed.bench.operations import Operations

WORDS = (
    "the", "cat", "sat", "on", "a", "mat", "and", "saw", "some", "birds", "that", "sang", "in", "old", "trees", "near",
)  # fmt: skip


def make_texts(count: int = 16) -> Texts:
    """Documents of 5 to 89 words."""
    rng = np.random.default_rng(0)
    documents = [" ".join(rng.choice(WORDS, int(size))) for size in rng.integers(5, 90, count)]
    return Texts(documents=documents, queries=[text[:30] for text in documents[:8]], origin="made here")


def make_network(*, longest: int = 64, operations: Operations | None = None) -> Network:
    """One whose tokens are words."""
    tokenizer = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return Network(tokenizer=tokenizer, longest=longest, operations=operations)


@dataclass(frozen=True, kw_only=True)
class Odd:
    """A contender that misbehaves as it is told."""

    label: str
    dim: int = 384
    fails_on_queries: bool = False

    @contextmanager
    def open(self, max_length: int | None) -> Iterator[Odd]:
        """It is open as it is."""
        yield self

    def encode(self, texts: Sequence[str], *, role: str = "document") -> Float32Array:
        """Noise, the same at every call."""
        if self.fails_on_queries and role == "query":
            raise RuntimeError("Already borrowed")
        return np.random.default_rng(1).standard_normal((len(texts), self.dim)).astype(np.float32)

    async def aencode(self, texts: Sequence[str], *, role: str = "document") -> Float32Array:
        """The same."""
        return self.encode(texts, role=role)


class Recording:
    """A contender that remembers how it was asked."""

    def __init__(self, label: str = "recording") -> None:
        self.label = label
        self.opened: list[int | None] = []
        self.asked: list[tuple[list[str], str]] = []

    @contextmanager
    def open(self, max_length: int | None) -> Iterator[Recording]:
        """Noted."""
        self.opened.append(max_length)
        yield self

    def encode(self, texts: Sequence[str], *, role: str = "document") -> Float32Array:
        """Noted; a row of ones each."""
        self.asked.append((list(texts), role))
        return np.ones((len(texts), 2), np.float32)

    async def aencode(self, texts: Sequence[str], *, role: str = "document") -> Float32Array:
        """The same."""
        return self.encode(texts, role=role)


def make_ring(*contenders: object, rounds: int = 2, quick: bool = True, network: Network | None = None) -> Ring:
    """Where they take turns."""
    return Ring(
        contenders=contenders,
        network=network or make_network(),
        texts=make_texts(),
        max_length=48,
        rounds=rounds,
        quick=quick,
        progress=False,
    )
