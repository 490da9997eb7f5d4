"""Rows of vectors: their lengths, and the angles between them. Pure functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from nimbed._types import Float32Array

_MIN_NORM = 1e-12


def l2_normalized(vectors: Float32Array) -> Float32Array:
    """``x / max(|x|, 1e-12)`` of each row, ``[n, dim]``, as ``torch.nn.functional.normalize`` has it."""
    norms: Float32Array = np.linalg.norm(vectors, axis=1, keepdims=True)
    result: Float32Array = vectors / np.maximum(norms, np.float32(_MIN_NORM))
    return result


def row_cosines(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Cosine between each row of ``a`` and the same row of ``b``, ``[n, dim]`` to ``[n]``, in their precision."""
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosines: np.ndarray[Any, Any] = (a * b).sum(axis=1) / np.maximum(norms, _MIN_NORM)
    return cosines
