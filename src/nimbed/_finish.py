"""The last step: windows joined, components cut, vectors normalised. Pure functions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from nimbed._tokenize import TokenizedTexts
    from nimbed._types import Float32Array


def finish(vectors: Float32Array, tokens: TokenizedTexts, *, dim: int, normalize: bool) -> Float32Array:
    """From one vector a sequence, ``[sequences, full_dim]``, to one a text, ``[texts, dim]``.

    Args:
        vectors: in the order of ``tokens.sequences``.
        tokens: tells which sequences belong to which text, and their weights.
        dim: components to keep.
        normalize: whether the result must be divided by its L2 norm (the engine's own vectors may be already).
    """
    if tokens.windowed:
        joined = np.zeros((tokens.texts, vectors.shape[1]), np.float32)
        np.add.at(joined, tokens.owners, vectors * tokens.weights[:, None])
        vectors = joined
    if dim < vectors.shape[1]:
        # A copy, so that the cut-off part does not stay in memory.
        vectors = vectors[:, :dim].copy()
    if normalize:
        vectors = l2_normalized(vectors)
    return vectors


def l2_normalized(vectors: Float32Array) -> Float32Array:
    """``x / max(|x|, 1e-12)``, as ``torch.nn.functional.normalize`` has it."""
    norms: Float32Array = np.linalg.norm(vectors, axis=1, keepdims=True)
    result: Float32Array = vectors / np.maximum(norms, np.float32(1e-12))
    return result
