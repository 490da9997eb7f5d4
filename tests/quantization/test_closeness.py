"""How close outputs are to the fp32 ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from nimbed.errors import BuildError
from nimbed.quantization.closeness import _agreement, _spearman, closeness, finite, in_batches, quality, score_quality


@given(
    pairs=st.lists(st.tuples(st.integers(-4, 4), st.integers(-4, 4)), min_size=3, max_size=40).filter(
        lambda pairs: all(len(set(values)) > 1 for values in zip(*pairs, strict=True))
    )
)
def test_rank_correlation_is_spearmans(pairs):
    a, b = np.array(pairs, np.float32).T
    assert _spearman(a, b) == pytest.approx(stats.spearmanr(a, b).statistic, abs=1e-9)


def test_rank_correlation_without_an_order():
    flat, slope = np.ones(5, np.float32), np.arange(5, dtype=np.float32)
    assert _spearman(flat, slope) == 1
    assert _spearman(slope, flat) == 0


def test_agreement_counts_neighbours_that_stay():
    exact = np.arange(30, 0, -1, dtype=np.float32)[None].repeat(2, axis=0)
    rounded = exact.copy()
    rounded[0, 0] = -1  # the nearest goes to the end, so the eleventh comes in
    assert _agreement(exact, rounded) == pytest.approx((0.9 + 1) / 2)
    assert _agreement(exact[:, :4], rounded[:, :4]) == 1


def test_quality_of_equal_and_of_turned_vectors():
    vectors = np.random.default_rng(0).normal(size=(60, 16)).astype(np.float32)
    same = quality(vectors, 3 * vectors, 30)
    assert same == {
        "texts": 60, "mean_cosine": 1, "min_cosine": 1, "top10_agreement": 1, "rank_correlation": 1
    }  # fmt: skip
    turned = vectors.copy()
    turned[7] = -turned[7]
    measured = quality(vectors, turned, 30)
    assert measured["min_cosine"] == -1
    assert measured["mean_cosine"] == pytest.approx(58 / 60, abs=1e-6)
    assert measured["top10_agreement"] < 1
    assert measured["rank_correlation"] < 1


def test_scores_are_compared_by_difference_and_order():
    reference = np.float32([[1], [2], [4], [8]])
    same = score_quality(reference, reference)
    assert same == {"texts": 4, "mean_difference": 0, "max_difference": 0, "kendall_tau": 1}
    assert score_quality(reference, reference[::-1])["kendall_tau"] == -1
    assert score_quality(reference, np.ones_like(reference))["kendall_tau"] == 1  # there is no order to be compared
    assert closeness(reference, reference + reference.std())[0] == pytest.approx(0, abs=1e-6)


@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=50))
def test_batches_are_of_like_length_and_outputs_in_order(lengths):
    seen = []

    def outputs(batch):
        seen.append(batch.lengths.tolist())
        return batch.lengths[:, None].astype(np.float32)

    found = in_batches([np.zeros(length, np.int32) for length in lengths], outputs)
    assert found[:, 0].tolist() == lengths
    assert [length for batch in seen for length in batch] == sorted(lengths)


def test_outputs_that_are_not_finite_end_the_build():
    fine = np.ones((2, 2), np.float32)
    assert finite(fine) is fine
    for value in (np.nan, np.inf):
        with pytest.raises(BuildError, match="not finite"):
            finite(np.float32([[1, value]]))
