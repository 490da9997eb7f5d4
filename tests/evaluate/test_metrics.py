"""Figures held against their definitions, scipy, and each other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimbed.evaluate import RetrievalSet
from nimbed.evaluate.metrics import (
    average_precision,
    dcg,
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


GAINS = st.lists(st.integers(-1, 3), min_size=1, max_size=30).filter(lambda gains: max(gains) > 0)


@given(GAINS)
def test_every_figure_is_a_share_and_best_in_the_best_order(gains):
    best = sorted(gains, reverse=True)
    for order in (gains, best):
        for figure in (ndcg(order, gains), recall(order, gains), reciprocal_rank(order), average_precision(order)):
            assert 0 <= figure <= 1 + 1e-12
    assert ndcg(best, gains) == pytest.approx(1)
    assert recall(best, gains) == reciprocal_rank(best) == average_precision(best) == 1


def test_gain_is_discounted_by_the_logarithm_of_its_rank():
    assert dcg([3, 0, 1]) == pytest.approx(3 / 1 + 1 / 2)
    assert dcg([]) == 0
