"""Weights of a BERT-like encoder as the native engine reads them: int8, in panels, LayerNorm's parameters folded in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nimbed._types import Float32Array

PANEL = 64


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Widths of a network, padded as the kernels want them.

    Attributes:
        hidden: of a token's vector.
        heads: of attention, of ``head_dim`` components each.
        intermediate: between the two products of the feed-forward block.
    """

    hidden: int
    heads: int
    intermediate: int

    @property
    def width(self) -> int:
        """A token's vector, padded."""
        return padded(self.hidden)

    @property
    def head_dim(self) -> int:
        """One head, padded to 16."""
        return padded(self.hidden // self.heads, 16)

    @property
    def group_heads(self) -> int:
        """Heads that share a panel: the most that fit, and that divide the heads."""
        most = max(1, PANEL // self.head_dim)
        return max(n for n in range(1, most + 1) if self.heads % n == 0)

    @property
    def groups(self) -> int:
        """Groups of heads."""
        return self.heads // self.group_heads

    @property
    def group_width(self) -> int:
        """Columns of a group's q, k or v."""
        return padded(self.group_heads * self.head_dim)

    def columns(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Where each component of all heads has its padded place, int64 ``[hidden]``."""
        head, component = np.divmod(np.arange(self.hidden), self.hidden // self.heads)
        group, member = np.divmod(head, self.group_heads)
        return group * self.group_width + member * self.head_dim + component


def padded(size: int, step: int = PANEL) -> int:
    """The next multiple of ``step``."""
    return -(-size // step) * step


def spread(values: Float32Array, places: Any, size: int, axis: int = 0) -> Float32Array:  # noqa: ANN401 (an index)
    """The values at their places on an axis of ``size``, zeros elsewhere."""
    shape = list(values.shape)
    shape[axis] = size
    made = np.zeros(shape, np.float32)
    made[(slice(None),) * axis + (places,)] = values
    return made


def packed_linear(name: str, weights: Float32Array, bias: Float32Array) -> dict[str, Any]:
    """Arrays of a product ``x W^T + b``, padded widths: W float32 ``[outputs, inputs]``.

    Each output channel has a scale of its own: its largest weight is 127.
    """
    outputs, inputs = weights.shape
    largest = np.abs(weights).max(axis=1)
    scale = np.where(largest > 0, largest / 127, 1).astype(np.float32)
    rounded = np.rint(weights / scale[:, None]).astype(np.int8)
    panels = rounded.reshape(outputs // PANEL, PANEL, inputs // 4, 4).transpose(0, 2, 1, 3)
    return {
        f"{name}.weights": np.ascontiguousarray(panels),
        f"{name}.scale": scale,
        f"{name}.sum": scale * rounded.sum(axis=1, dtype=np.int64).astype(np.float32),
        f"{name}.bias": bias.astype(np.float32),
    }


def smoothing(gamma: Float32Array, weights: Float32Array) -> Float32Array:
    """Factors ``[inputs]`` between activations and weights: SmoothQuant's (Xiao et al. 2023) with alpha 0.5.

    What is rounded is a unit vector (LayerNorm without gamma and beta) times the factor, so the range of a channel is
    known without calibration: gamma.
    """
    largest = np.abs(weights).max(axis=0)
    factors = np.sqrt(np.abs(gamma) * largest)
    least = factors.max() * 1e-3 or 1.0
    return np.maximum(factors, least).astype(np.float32)
