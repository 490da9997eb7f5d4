"""How sure a difference is: resampling the queries (or pairs) that both settings were measured on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from nimbed.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nimbed._types import Float32Array
    from nimbed.evaluate.metrics import Float64Array, IntArray

_BLOCK = 1_000_000  # counts that are held at once


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A difference with its uncertainty.

    Attributes:
        difference: first less second, in the metric's unit.
        low: lower end of the 95 % interval.
        high: its upper end.
        p_value: two-sided, for the hypothesis that there is no difference.
    """

    difference: float
    low: float
    high: float
    p_value: float


class Statistic(Protocol):
    """A figure over ``n`` items that can be computed again with each item taken any number of times."""

    def of(self, counts: IntArray) -> Float64Array:
        """The figure for each row of ``counts`` ``[resamples, n]``, ``[resamples]``."""


class Mean:
    """Mean over queries; ``values`` float64 ``[n]``."""

    def __init__(self, values: Float64Array) -> None:
        self.values = values

    def of(self, counts: IntArray) -> Float64Array:
        """See :class:`Statistic`."""
        means: Float64Array = counts @ self.values / counts.sum(axis=1)
        return means


class Spearman:
    """Spearman's rank correlation of ``predicted`` with ``gold``, both ``[n]``; ties share their mean rank.

    Pearson's correlation of the ranks (Spearman 1904, "The Proof and Measurement of Association between Two Things").
    In a resample, an item's rank follows from how often the items before it were taken: nothing is sorted again.
    """

    def __init__(self, predicted: Float32Array | Sequence[float], gold: Sequence[float]) -> None:
        self._groups = [_Groups(np.asarray(values, np.float64)) for values in (predicted, gold)]

    def of(self, counts: IntArray) -> Float64Array:
        """See :class:`Statistic`; 0 where one side is constant."""
        left, right = (groups.centred_ranks(counts) for groups in self._groups)
        spread = np.sqrt((counts * left**2).sum(axis=1) * (counts * right**2).sum(axis=1))
        together = (counts * left * right).sum(axis=1)
        correlation: Float64Array = np.divide(together, spread, out=np.zeros_like(spread), where=spread > 0)
        return correlation


class _Groups:
    """Items in groups of equal value, the smallest value first."""

    def __init__(self, values: Float64Array) -> None:
        self._order = np.argsort(values, kind="stable")
        _, self._starts, self._group = np.unique(values[self._order], return_index=True, return_inverse=True)

    def centred_ranks(self, counts: IntArray) -> Float64Array:
        """Rank of each item less the mean rank, ``[resamples, n]``, in the items' own order."""
        sizes = np.add.reduceat(counts[:, self._order], self._starts, axis=1)
        ranks = np.cumsum(sizes, axis=1) - (sizes - 1) / 2 - (counts.sum(axis=1, keepdims=True) + 1) / 2
        centred = np.empty(counts.shape)
        centred[:, self._order] = ranks[:, self._group]
        return centred


def value(statistic: Statistic, items: int) -> float:
    """The figure over all items, each taken once."""
    return float(statistic.of(np.ones((1, items), np.int64))[0])


def compare(first: Statistic, second: Statistic, items: int, *, resamples: int, seed: int) -> Comparison:
    """First less second over the same ``items``, by the paired bootstrap.

    Items are drawn with replacement, the same for both. The interval is the percentile interval (Efron and Tibshirani
    1993, "An Introduction to the Bootstrap", section 13.3). The p-value is the share of resamples whose difference,
    shifted to have mean 0, is at least as far from 0 as the one observed (Sakai 2006, "Evaluating evaluation
    metrics based on the bootstrap"; with the observed one counted in, Davison and Hinkley 1997, section 4.2.3).

    Raises:
        InputError: ``resamples`` is below 100.
    """
    if resamples < 100:
        raise InputError(f"resamples={resamples}: an interval needs 100 at least (default: 10000)")
    observed = value(first, items) - value(second, items)
    drawn = np.concatenate([first.of(c) - second.of(c) for c in _resampled(items, resamples, seed)])
    low, high = np.quantile(drawn, (0.025, 0.975))
    # Sums in another order differ in the last bits; a difference of nothing must not look like one.
    as_far = np.abs(drawn - observed) >= abs(observed) - 1e-12
    p_value = (1 + int(as_far.sum())) / (1 + resamples)
    return Comparison(difference=observed, low=float(low), high=float(high), p_value=p_value)


def _resampled(items: int, resamples: int, seed: int) -> Iterator[IntArray]:
    """How often each item was drawn, ``[block, items]``, until there are ``resamples`` rows."""
    rng = np.random.default_rng(seed)
    block = max(1, _BLOCK // items)
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        drawn = rng.integers(0, items, (size, items)) + np.arange(size)[:, None] * items
        yield np.bincount(drawn.ravel(), minlength=size * items).reshape(size, items)
