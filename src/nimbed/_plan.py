"""Lengths in, batches out. Pure functions; each text lands in exactly one batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nimbed._shapes import ShapePolicy


@dataclass(frozen=True, kw_only=True)
class PlannedBatch:
    """Which sequences run together.

    Attributes:
        indices: int64 ``[B]``, positions in the list that was planned.
        length: padded length in tokens of each row.
        tokens: real tokens, without padding.
    """

    indices: npt.NDArray[np.int64]
    length: int
    tokens: int

    @property
    def padded_tokens(self) -> int:
        """Tokens that the engine computes, padding included."""
        return len(self.indices) * self.length


def plan(lengths: Sequence[int], shapes: ShapePolicy) -> list[PlannedBatch]:
    """Sort by length, longest first, and fill each batch up to the token budget.

    Longest first, so that the largest buffers are allocated once and the cheap batches fill the end. Equal lengths
    keep their order. A single text over the budget gets a batch of its own.

    Args:
        lengths: tokens of each sequence.
        shapes: the engine's budget and buckets.

    Returns:
        Batches that together hold each index of ``lengths`` exactly once.
    """
    sizes = np.asarray(lengths, np.int64)
    order = np.argsort(-sizes, kind="stable")
    batches: list[PlannedBatch] = []
    start = 0
    while start < len(order):
        longest, left = int(sizes[order[start]]), len(order) - start
        rows = shapes.rows(left, shapes.pad_to(longest, rows=left))
        indices = order[start : start + rows]
        length = shapes.pad_to(longest, rows=rows)
        batches.append(PlannedBatch(indices=indices, length=length, tokens=int(sizes[indices].sum())))
        start += rows
    return batches
