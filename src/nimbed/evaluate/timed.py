"""Texts to normalized vectors, by the clock."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from nimbed._vectors import l2_normalized

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nimbed._types import Float32Array, Role
    from nimbed.evaluate.settings import Embedder


class Timed:
    """An embedder whose documents are timed; vectors come normalized, ``[n, dim]``."""

    def __init__(self, embedder: Embedder, *, progress: bool) -> None:
        self._embedder = embedder
        self._progress = progress
        self.texts = 0
        self.seconds = 0.0

    def documents(self, texts: Sequence[str]) -> Float32Array:
        """With the documents' prompt, by the clock."""
        started = time.perf_counter()
        vectors = embed(self._embedder, texts, "document", progress=self._progress)
        self.seconds += time.perf_counter() - started
        self.texts += len(texts)
        return l2_normalized(vectors)

    def queries(self, texts: Sequence[str]) -> Float32Array:
        """With the queries' prompt."""
        return l2_normalized(embed(self._embedder, texts, "query", progress=self._progress))


def embed(embedder: Embedder, texts: Sequence[str], role: Role, *, progress: bool = False) -> Float32Array:
    """Vectors as they come, float32 ``[n, dim]``."""
    return np.concatenate(list(embedder.encode_iter(texts, role=role, progress=progress)))
