"""float32 weights to int8, each rounding's error made good by the weights that are rounded after it.

GPTQ (Frantar et al. 2023, https://arxiv.org/abs/2210.17323): of all roundings that a grid allows, one close to the best
for the inputs that a product really sees, which their second moments tell. The arithmetic is the native engine's own,
since the order in which a BLAS adds differs from one to the next: the same weights give the same bytes everywhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from nimbed._types import Float32Array

    Float64Array = np.ndarray[Any, np.dtype[np.float64]]
    Int8Array = np.ndarray[Any, np.dtype[np.int8]]
    Int64Array = np.ndarray[Any, np.dtype[np.int64]]

_LARGEST = 127


def steps_of(largest: Float32Array) -> Float32Array:
    """Steps of which the largest numbers are 127; 1 where a step would be no normal number, and rounds all to 0."""
    steps: Float32Array = (largest / _LARGEST).astype(np.float32)
    return np.where(steps >= np.finfo(np.float32).tiny, steps, np.float32(1))


def scales_of(weights: Float32Array, groups: Int64Array) -> Float32Array:
    """A step for each output channel and group of inputs, ``[outputs, groups]``: the largest weight is 127 of them.

    Args:
        weights: ``[outputs, inputs]``.
        groups: the group of each input, ``[inputs]``.
    """
    return steps_of(np.stack([np.abs(weights[:, groups == g]).max(axis=1) for g in range(groups.max() + 1)], axis=1))


def add_second_moments(x: Float32Array, sums: Float64Array, threads: int) -> None:
    """Adds ``x^T x`` to the lower triangle of ``sums``, ``[inputs, inputs]``; ``x`` is ``[rows, inputs]``.

    Up to 256 rows are added in float32, and their sums in float64.
    """
    from nimbed._native import rounding

    rounding.second_moments(np.ascontiguousarray(x), sums, threads)


def rounded(
    weights: Float32Array, steps: Float32Array, groups: Int64Array, moments: Float64Array, threads: int
) -> Int8Array:
    """Weights ``[outputs, inputs]`` in steps of their output and group, -127 to 127.

    Args:
        weights: float32, ``[outputs, inputs]``.
        steps: as ``scales_of`` gives them, ``[outputs, groups]``.
        groups: the group of each input, ``[inputs]``.
        moments: ``X^T X`` of the inputs, ``[inputs, inputs]``, of which the lower triangle is read; inputs that are
            never seen are rounded as they are.
        threads: how many share the work; they change no bit.

    Raises:
        ValueError: the moments are not positive definite, or a number is not finite.
    """
    from nimbed._native import rounding

    return rounding.gptq(np.ascontiguousarray(weights), steps, groups, moments, threads)
