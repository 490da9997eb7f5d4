"""Figures held against their definitions, scipy, and each other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nimbed.errors import InputError
from nimbed.evaluate import RetrievalSet
from nimbed.evaluate.bootstrap import Mean, Spearman, compare, value
from nimbed.evaluate.metrics import (
    average_precision,
    ndcg,
    recall,
    reciprocal_rank,
    rerank_scores,
    retrieval_scores,
    search,
)


def test_ndcg_is_that_of_trec_eval():
    expected = (1 / np.log2(2) + 2 / np.log2(4)) / (2 / np.log2(2) + 1 / np.log2(3))
    assert ndcg([1, 0, 2], [1, 2]) == pytest.approx(expected)
    assert ndcg([-1, 1], [-1, 1]) == pytest.approx(1 / np.log2(3))  # a negative judgement counts 0
    assert ndcg([0] * 10 + [1], [1]) == 0


def test_recall_and_ranks():
    assert recall([0, 1, 1], [1, 1, 1, 0, 0]) == pytest.approx(2 / 3)
    assert recall([0] * 100 + [1], [1]) == 0
    assert reciprocal_rank([0, 0, 1, 1]) == pytest.approx(1 / 3)
    assert reciprocal_rank([0] * 10 + [1], cut=10) == 0
    assert average_precision([1, 0, 1]) == pytest.approx((1 + 2 / 3) / 2)


def test_rerank_gives_nothing_for_ties():
    assert rerank_scores(np.float32([0.9, 0.1, 0.5]), 2) == pytest.approx(((1 + 2 / 3) / 2, 1))
    assert rerank_scores(np.zeros(3, np.float32), 1) == pytest.approx((1 / 3, 1 / 3))


@given(
    scores=st.lists(st.integers(0, 5), min_size=1, max_size=60),
    depth=st.integers(1, 70),
)
def test_search_is_a_stable_sort(scores, depth):
    docs = np.array(scores, np.float32)[:, None]
    (found,) = search(np.ones((1, 1), np.float32), docs, depth=depth)
    np.testing.assert_array_equal(found, np.argsort(-docs[:, 0], kind="stable")[:depth])


def test_search_in_blocks_is_search(monkeypatch):
    rng = np.random.default_rng(0)
    docs, queries = rng.normal(size=(300, 8)).astype(np.float32), rng.normal(size=(7, 8)).astype(np.float32)
    whole = search(queries, docs)
    monkeypatch.setattr("nimbed.evaluate.metrics._BLOCK_BYTES", 300 * 4 * 2)
    np.testing.assert_array_equal(search(queries, docs), whole)


def test_queries_without_relevant_documents_do_not_count():
    vectors = np.eye(2, dtype=np.float32)
    judged = RetrievalSet(docs={"a": "", "b": ""}, queries={"q": "", "r": ""}, qrels={"q": {"b": 1}, "r": {"a": 0}})
    found = retrieval_scores(vectors, vectors, judged)
    assert {metric: values.tolist() for metric, values in found.items()} == {
        "nDCG@10": [pytest.approx(1 / np.log2(3))],
        "recall@100": [1],
        "MRR@10": [0.5],
    }


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
