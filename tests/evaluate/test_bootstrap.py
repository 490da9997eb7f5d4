"""How sure a difference is: statistics hold in every resample, and intervals and p-values err as often as they say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nimbed.errors import InputError
from nimbed.evaluate.bootstrap import Mean, Spearman, compare, value


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=3, max_size=30), st.integers(0, 1000))
@settings(max_examples=50, deadline=None)
def test_spearman_is_scipys_whole_and_resampled(pairs, seed):
    from scipy.stats import spearmanr

    left, right = np.array(pairs, float).T
    drawn = np.random.default_rng(seed).integers(0, len(pairs), (4, len(pairs)))
    drawn[0] = np.arange(len(pairs))
    counts = np.stack([np.bincount(row, minlength=len(pairs)) for row in drawn])
    found = Spearman(left.astype(np.float32), right.tolist()).of(counts)
    for row, correlation in zip(drawn, found, strict=True):
        constant = len(set(left[row])) < 2 or len(set(right[row])) < 2
        expected = 0 if constant else spearmanr(left[row], right[row]).statistic
        assert correlation == pytest.approx(expected, abs=1e-9)


def test_comparison_is_seeded_and_paired():
    rng = np.random.default_rng(1)
    base = rng.random(200)
    first, second = Mean(base + 0.02 + rng.normal(0, 0.01, 200)), Mean(base)
    found = compare(first, second, 200, resamples=2000, seed=3)
    assert found == compare(first, second, 200, resamples=2000, seed=3)
    assert found != compare(first, second, 200, resamples=2000, seed=4)
    assert found.difference == pytest.approx(0.02, abs=0.003)
    # Queries differ by 0.3; the differences by 0.01: the interval is that of the differences.
    half = 1.96 * np.std(first.values - base) / 200**0.5
    assert (found.low, found.high) == pytest.approx((found.difference - half, found.difference + half), abs=2e-4)
    assert found.p_value == pytest.approx(1 / 2001)
    turned = compare(second, first, 200, resamples=2000, seed=3)
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low))


def test_no_difference_looks_like_none():
    same = Mean(np.random.default_rng(0).random(50))
    found = compare(same, Mean(same.values.copy()), 50, resamples=500, seed=0)
    assert (found.difference, found.low, found.high, found.p_value) == (0, 0, 0, 1)


def test_the_interval_covers_and_the_p_value_errs_as_often_as_they_say():
    rng = np.random.default_rng(5)
    found = [
        compare(Mean(rng.normal(size=60)), Mean(rng.normal(size=60)), 60, resamples=400, seed=n) for n in range(300)
    ]
    assert 0.02 < np.mean([one.p_value < 0.05 for one in found]) < 0.09
    assert 0.91 < np.mean([one.low <= 0 <= one.high for one in found]) < 0.98


def test_blocks_of_resamples_are_the_same_draws(monkeypatch):
    first, second = Mean(np.arange(20.0)), Mean(np.arange(20.0)[::-1] ** 2 / 19)
    whole = compare(first, second, 20, resamples=300, seed=0)
    monkeypatch.setattr("nimbed.evaluate.bootstrap._BLOCK", 20 * 7)
    assert compare(first, second, 20, resamples=300, seed=0) == whole


def test_few_resamples_are_refused():
    with pytest.raises(InputError, match="resamples=99"):
        compare(Mean(np.ones(3)), Mean(np.ones(3)), 3, resamples=99, seed=0)


def test_value_is_the_plain_figure():
    assert value(Mean(np.array([0.0, 1.0, 0.5])), 3) == pytest.approx(0.5)


@given(
    st.lists(st.tuples(st.floats(-5, 5), st.integers(0, 4)), min_size=1, max_size=20).filter(
        lambda p: any(n for _, n in p)
    )
)
def test_a_mean_counts_an_item_as_often_as_it_was_taken(pairs):
    values, counts = np.array([v for v, _ in pairs]), np.array([[n for _, n in pairs]])
    assert Mean(values).of(counts)[0] == pytest.approx(np.repeat(values, counts[0]).mean(), abs=1e-9)


def test_a_constant_side_has_no_correlation():
    assert value(Spearman([2.0, 2.0, 2.0], [1, 2, 3]), 3) == 0
    assert Spearman([1.0, 2.0, 3.0], [1, 2, 3]).of(np.array([[0, 3, 0], [1, 1, 1]])).tolist() == [0, 1]


def test_correlation_sees_order_alone():
    gold = [0.1, 0.2, 0.3, 0.4]
    assert value(Spearman([1.0, 10.0, 100.0, 1e6], gold), 4) == pytest.approx(1)
    assert value(Spearman([-1.0, -10.0, -100.0, -1e6], gold), 4) == pytest.approx(-1)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=12), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_an_interval_is_in_order_and_a_p_value_a_share(pairs, seed):
    first, second = (Mean(np.array(side)) for side in zip(*pairs, strict=True))
    found = compare(first, second, len(pairs), resamples=100, seed=seed)
    assert found.low <= found.high
    assert 1 / 101 <= found.p_value <= 1
    least, most = min(a - b for a, b in pairs), max(a - b for a, b in pairs)
    assert least - 1e-9 <= found.low <= found.high <= most + 1e-9
