"""The last step: windows joined, components cut, vectors normalised. Pure functions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nimbed._vectors import l2_normalized

if TYPE_CHECKING:
    from nimbed._text.tokenizer import TokenizedTexts
    from nimbed._types import Float32Array


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


def cut_to(dim: int, vectors: Float32Array, *, normalize: bool) -> Float32Array:
    """The first ``dim`` components, ``[n, dim]``, normalised again where they were."""
    if dim == vectors.shape[1]:
        return vectors
    # A copy, so that the cut-off part does not stay in memory.
    kept = vectors[:, :dim].copy()
    return l2_normalized(kept) if normalize else kept
