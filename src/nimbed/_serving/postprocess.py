"""How a vector is finished: windows joined, normalized, cut to ``dim``, copied for its caller. Nowhere else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nimbed._cache.lru import Vectors
from nimbed._vectors import l2_normalized

if TYPE_CHECKING:
    from nimbed._loading.engine import Engine
    from nimbed._text.tokenizer import TokenizedTexts
    from nimbed._types import Float32Array


@dataclass(frozen=True, kw_only=True)
class Postprocess:
    """Finishes vectors in two steps. The cache holds what is between the two, so it serves every ``dim``.

    Attributes:
        dim: components that callers get.
        normalize: whether vectors have norm 1.
        engine_normalizes: whether the engine's vectors have it already.
        center: whether a vector's mean is subtracted before it is cut.
    """

    dim: int
    normalize: bool
    engine_normalizes: bool
    center: bool = False

    @classmethod
    def of(cls, engine: Engine) -> Postprocess:
        """That of an opened engine's vectors."""
        return cls(
            dim=engine.info.dim,
            normalize=engine.info.normalize,
            engine_normalizes=not engine.normalize_after,
            center=engine.spec.center_before_cut,
        )

    def full(self, raw: Float32Array, tokens: TokenizedTexts) -> Vectors:
        """Vectors of texts ``[texts, full_dim]``, from those of their sequences ``[sequences, full_dim]``."""
        rows = join_windows(raw, tokens)
        if self.normalize and (tokens.windowed or not self.engine_normalizes):
            rows = l2_normalized(rows)
        return Vectors(rows, tokens.cut)

    def for_caller(self, vectors: Vectors, *, shared: bool) -> Vectors:
        """Cut to ``[n, dim]``, as arrays that the caller may change.

        Args:
            vectors: as :meth:`full` makes them.
            shared: whether others may still read them.
        """
        rows, cut = vectors
        if self.dim != rows.shape[1]:
            return Vectors(cut_to(self.dim, rows, normalize=self.normalize, center=self.center), cut)
        return Vectors(rows.copy(), cut) if shared else vectors


def join_windows(vectors: Float32Array, tokens: TokenizedTexts) -> Float32Array:
    """From one vector a sequence, ``[sequences, dim]``, to one a text, ``[texts, dim]``.

    Args:
        vectors: in the order of ``tokens.sequences``.
        tokens: tells which sequences belong to which text, and their weights.
    """
    if not tokens.windowed:
        return vectors
    joined = np.zeros((tokens.texts, vectors.shape[1]), np.float32)
    np.add.at(joined, tokens.owners, vectors * tokens.weights[:, None])
    return joined


def cut_to(dim: int, vectors: Float32Array, *, normalize: bool, center: bool = False) -> Float32Array:
    """The first ``dim`` components, ``[n, dim]``, less the mean of all where ``center`` says so, normalized again."""
    # A copy, so that the cut-off part does not stay in memory.
    kept = vectors[:, :dim].copy()
    if center:
        kept -= vectors.mean(axis=1, dtype=np.float64, keepdims=True).astype(np.float32)
    return l2_normalized(kept) if normalize else kept
