"""How far rounding moves the vectors of a network, judged so that too crude a rounding fails."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nimbed._vectors import l2_normalized
from nimbed.quantization.closeness import quality

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt
    import torch

    Array = npt.NDArray[np.float32]

MAX_ERROR_OVER_SPREAD, MIN_TOP10_AGREEMENT = 0.01, 0.98


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What rounding costs.

    Attributes:
        error_over_spread: see `error_over_spread`.
        top10_agreement: of the ten documents nearest to each query, the share that is found after rounding.
        worst_cosine: between a vector and its rounded one.
    """

    error_over_spread: float
    top10_agreement: float
    worst_cosine: float

    @property
    def holds(self) -> bool:
        return self.error_over_spread <= MAX_ERROR_OVER_SPREAD and self.top10_agreement >= MIN_TOP10_AGREEMENT


def verdict(exact: Array, rounded: Array, documents: int) -> Verdict:
    """Of vectors ``[n, dim]``: documents first, then the queries that are sought among them."""
    found = quality(exact, rounded, documents)
    return Verdict(
        error_over_spread=error_over_spread(exact, rounded),
        top10_agreement=found["top10_agreement"],
        worst_cosine=found["min_cosine"],
    )


def error_over_spread(exact: Array, rounded: Array) -> float:
    """Mean of 1 - cosine to the exact vector of the same text, over that between exact vectors of different texts.

    Vectors of a trained network fill a narrow cone, so that a cosine near 1 says little by itself.
    """
    exact, rounded = (l2_normalized(one.astype(np.float64)) for one in (exact, rounded))
    error = 1 - (exact * rounded).sum(1).mean()
    alike = exact @ exact.T
    count = len(exact)
    return float(error / (1 - (alike.sum() - np.trace(alike)) / (count * (count - 1))))


def score_error_over_spread(exact: Array, rounded: Array) -> float:
    """The like of scores ``[n]``, since 1 - cosine is half a squared difference: its mean over that between pairs."""
    exact, rounded = exact.astype(np.float64), rounded.astype(np.float64)
    return float(((exact - rounded) ** 2).mean() / (2 * exact.var(ddof=1)))


def with_rounded_weights(tensors: Mapping[str, torch.Tensor], bits: int) -> dict[str, torch.Tensor]:
    """The plain encoder's tensors with the weights of all linear layers rounded to nearest, a scale for each output."""
    return {
        name: _rounded(one, 2 ** (bits - 1) - 1) if one.ndim == 2 and name.startswith("layers.") else one
        for name, one in tensors.items()
    }


def _rounded(weight: torch.Tensor, levels: int) -> torch.Tensor:
    scale = weight.abs().amax(1, keepdim=True).clamp(min=1e-30) / levels
    return (weight / scale).round() * scale
