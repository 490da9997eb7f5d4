"""float32 weights to int8, each rounding's error made good by the weights that are rounded after it.

GPTQ (Frantar et al. 2023, https://arxiv.org/abs/2210.17323): of all roundings that a grid allows, one close to the best
for the inputs that a product really sees, which their second moments tell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from nimbed._types import Float32Array

    Int8Array = np.ndarray[Any, np.dtype[np.int8]]

_LARGEST = 127
_BLOCK = 128
_DAMPING = 0.01


def scales_of(weights: Float32Array) -> Float32Array:
    """A step for each output channel, ``[outputs]``: its largest weight is 127 of them."""
    largest = np.abs(weights).max(axis=1)
    return np.where(largest > 0, largest / _LARGEST, 1).astype(np.float32)


def rounded(weights: Float32Array, scales: Float32Array, moments: Float32Array) -> Int8Array:
    """Weights ``[outputs, inputs]`` in steps of their channel's scale, ``[outputs]``.

    Args:
        weights: float32.
        scales: of :func:`scales_of`.
        moments: ``X^T X`` of the inputs, ``[inputs, inputs]``; inputs that are never seen are rounded as they are.
    """
    order = np.argsort(-moments.diagonal(), kind="stable")  # the inputs that count most are rounded first
    left = (weights / scales[:, None])[:, order].astype(np.float32)
    factor = _inverse_factor(moments[np.ix_(order, order)].astype(np.float64))
    made = np.zeros_like(left)
    for start in range(0, left.shape[1], _BLOCK):
        block = slice(start, min(start + _BLOCK, left.shape[1]))
        some, own = left[:, block], factor[block, block]
        errors = np.zeros_like(some)
        for i in range(some.shape[1]):
            made[:, start + i] = np.clip(np.rint(some[:, i]), -_LARGEST, _LARGEST)
            errors[:, i] = (some[:, i] - made[:, start + i]) / own[i, i]
            some[:, i + 1 :] -= np.outer(errors[:, i], own[i, i + 1 :])
        left[:, block.stop :] -= errors @ factor[block, block.stop :]
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    return made[:, back].astype(np.int8)


def _inverse_factor(moments: np.ndarray[Any, np.dtype[np.float64]]) -> Float32Array:
    """The upper triangle U of the moments' inverse U^T U."""
    size = len(moments)
    damping = _DAMPING * max(float(moments.diagonal().mean()), 1e-12)
    inverse = np.linalg.inv(moments + damping * np.eye(size))
    upper: Float32Array = np.linalg.cholesky((inverse + inverse.T) / 2).T.astype(np.float32)
    return upper
