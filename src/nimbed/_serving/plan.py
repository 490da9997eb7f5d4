"""Lengths in, batches out. Pure functions; each text lands in exactly one batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from nimbed.backends.shapes import ShapePolicy


def plan(lengths: Sequence[int], shapes: ShapePolicy) -> list[npt.NDArray[np.int64]]:
    """Sort by length, longest first, and fill each batch up to the token budget.

    Longest first, so that the largest buffers are allocated once and the cheap batches fill the end. Equal lengths
    keep their order. A single text over the budget gets a batch of its own.

    Args:
        lengths: tokens of each sequence.
        shapes: the engine's budget and buckets.

    Returns:
        Batches, each the positions of its rows in ``lengths``, int64 ``[B]``; together they hold each exactly once.
    """
    sizes = np.asarray(lengths, np.int64)
    order = np.argsort(-sizes, kind="stable")
    batches: list[npt.NDArray[np.int64]] = []
    start = 0
    while start < len(order):
        left = len(order) - start
        rows = shapes.rows(left, shapes.pad_to(int(sizes[order[start]]), rows=left))
        batches.append(order[start : start + rows])
        start += rows
    return batches
