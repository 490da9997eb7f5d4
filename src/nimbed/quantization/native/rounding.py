"""float32 weights to int8, each rounding's error made good by the weights that are rounded after it.

GPTQ (Frantar et al. 2023, https://arxiv.org/abs/2210.17323): of all roundings that a grid allows, one close to the best
for the inputs that a product really sees, which their second moments tell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from nimbed._types import Float32Array

    Triangle = np.ndarray[Any, np.dtype[np.floating[Any]]]
    Int8Array = np.ndarray[Any, np.dtype[np.int8]]
    Int64Array = np.ndarray[Any, np.dtype[np.int64]]

_LARGEST = 127
_BLOCK = 128
_DAMPING = 0.01


def scales_of(weights: Float32Array, groups: Int64Array) -> Float32Array:
    """A step for each output channel and group of inputs, ``[outputs, groups]``: the largest weight is 127 of them.

    Args:
        weights: ``[outputs, inputs]``.
        groups: the group of each input, ``[inputs]``.
    """
    largest = np.stack([np.abs(weights[:, groups == g]).max(axis=1) for g in range(groups.max() + 1)], axis=1)
    return np.where(largest > 0, largest / _LARGEST, 1).astype(np.float32)


def rounded(weights: Float32Array, scales: Float32Array, moments: Float32Array) -> Int8Array:
    """Weights ``[outputs, inputs]`` in steps of their scale.

    Args:
        weights: float32.
        scales: one for each weight, ``[outputs, inputs]``.
        moments: ``X^T X`` of the inputs, ``[inputs, inputs]``; inputs that are never seen are rounded as they are.
    """
    order = np.argsort(-moments.diagonal(), kind="stable")  # the inputs that count most are rounded first
    left, steps = (np.ascontiguousarray(values.T[order], np.float32) for values in (weights, scales))
    factor = _inverse_factor(moments[np.ix_(order, order)].astype(np.float64))
    factor /= factor.diagonal()[:, None]
    for start in range(0, len(left), _BLOCK):
        block, errors = left[start : start + _BLOCK], np.empty_like(left[start : start + _BLOCK])
        own, later = factor[start : start + _BLOCK, start:], start + len(block)
        for i, row in enumerate(block):
            whole = np.clip(np.rint(row / steps[start + i]), -_LARGEST, _LARGEST)
            np.subtract(row, whole * steps[start + i], out=errors[i])
            row[:] = whole
            block[i + 1 :] -= own[i, i + 1 : len(block), None] * errors[i]
        left[later:] -= own[:, len(block) :].T @ errors
    made: Int8Array = np.empty(weights.shape, np.int8)
    made[:, order] = left.T
    return made


def _inverse_factor(moments: Triangle) -> Float32Array:
    """The upper triangle U of the moments' inverse U^T U: the inverse of R where the moments are R R^T."""
    damping = _DAMPING * max(float(moments.diagonal().mean()), 1e-12)
    lower = np.linalg.cholesky((moments + damping * np.eye(len(moments)))[::-1, ::-1])
    return _inverse(lower)[::-1, ::-1].astype(np.float32)


def _inverse(lower: Triangle) -> Triangle:
    """Of a lower triangle, by halves: nearly all of it is matrix products."""
    half = len(lower) // 2
    if half < _BLOCK:
        return np.linalg.inv(lower)
    made = np.zeros_like(lower)
    made[:half, :half], made[half:, half:] = first, last = _inverse(lower[:half, :half]), _inverse(lower[half:, half:])
    made[half:, :half] = -last @ (lower[half:, :half] @ first)
    return made
