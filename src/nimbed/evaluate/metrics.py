"""Figures of ranking quality. All take rank order for granted: gains of the documents, the best first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nimbed._types import Float32Array
    from nimbed.evaluate.loaders import RetrievalSet

Float64Array = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

DEPTH = 100  # documents that a query's ranking keeps
_BLOCK_BYTES = 64 * 1024 * 1024  # of scores that are held at once


def search(queries: Float32Array, docs: Float32Array, *, depth: int = DEPTH) -> list[IntArray]:
    """Of each query, the numbers of the ``depth`` documents with the largest dot product, the best first.

    Equal scores keep the documents' order. Queries are taken in blocks, so that the scores take 64 MiB at most
    (or one query's row).
    """
    block = max(1, _BLOCK_BYTES // max(1, docs.shape[0] * 4))
    found: list[IntArray] = []
    for start in range(0, len(queries), block):
        found.extend(_best(row, depth) for row in queries[start : start + block] @ docs.T)
    return found


def _best(scores: Float32Array, depth: int) -> IntArray:
    if len(scores) > depth:
        # The depth-th largest score splits the documents in linear time; only those above it are sorted.
        least = np.partition(scores, -depth)[-depth]
        above, equal = np.flatnonzero(scores > least), np.flatnonzero(scores == least)
        kept = np.sort(np.concatenate([above, equal[: depth - len(above)]]))
    else:
        kept = np.arange(len(scores))
    order: IntArray = kept[np.argsort(-scores[kept], kind="stable")]
    return order


def dcg(gains: Sequence[float]) -> float:
    """Discounted cumulative gain: each gain divided by log2 of rank + 1."""
    return float(sum(gain / np.log2(rank + 1) for rank, gain in enumerate(gains, start=1)))


def ndcg(gains: Sequence[float], judged: Sequence[float], *, cut: int = 10) -> float:
    """Normalized DCG as trec_eval computes it: linear gain, negative judgements count 0.

    DCG = sum of rel_i / log2(i + 1) over the first ``cut`` documents, divided by that of the best possible order
    (Järvelin and Kekäläinen 2002, "Cumulated gain-based evaluation of IR techniques").

    Args:
        gains: of the documents found, in rank order.
        judged: of all documents judged for the query; one at least is above 0.
        cut: the ranks that count.
    """
    ideal = dcg(sorted((max(g, 0.0) for g in judged), reverse=True)[:cut])
    return dcg([max(g, 0.0) for g in gains[:cut]]) / ideal


def recall(gains: Sequence[float], judged: Sequence[float], *, cut: int = 100) -> float:
    """Share of the relevant documents that are among the first ``cut``."""
    return sum(g > 0 for g in gains[:cut]) / sum(g > 0 for g in judged)


def reciprocal_rank(gains: Sequence[float], *, cut: int | None = None) -> float:
    """1 / rank of the first relevant document; 0 where none is among the first ``cut`` (None: all).

    Voorhees 1999, "The TREC-8 Question Answering Track Report".
    """
    return next((1 / rank for rank, gain in enumerate(gains[:cut], start=1) if gain > 0), 0.0)


def average_precision(gains: Sequence[float]) -> float:
    """Mean of the precision at the ranks of the relevant documents; all of these are in the ranking.

    Manning, Raghavan and Schütze 2008, "Introduction to Information Retrieval", section 8.4.
    """
    ranks = [rank for rank, gain in enumerate(gains, start=1) if gain > 0]
    return sum(number / rank for number, rank in enumerate(ranks, start=1)) / len(ranks)


def retrieval_scores(docs: Float32Array, queries: Float32Array, judged: RetrievalSet) -> dict[str, Float64Array]:
    """nDCG@10, recall@100 and MRR@10 of each query that has a relevant document.

    Args:
        docs: normalized vectors ``[documents, dim]`` in the order of ``judged.docs``.
        queries: normalized vectors ``[queries, dim]`` in the order of ``judged.queries``.
        judged: whose judgements count.

    Returns:
        float64 ``[queries with a relevant document]`` by metric.
    """
    names = list(judged.docs)
    scores = []
    for query, found in zip(judged.queries, search(queries, docs), strict=True):
        relevance = judged.qrels.get(query, {})
        every = list(relevance.values())
        if any(score > 0 for score in every):
            gains = [relevance.get(names[number], 0) for number in found]
            scores.append((ndcg(gains, every), recall(gains, every), reciprocal_rank(gains, cut=10)))
    columns = np.array(scores, np.float64).reshape(-1, 3).T
    return dict(zip(("nDCG@10", "recall@100", "MRR@10"), columns, strict=True))


def rerank_scores(scores: Float32Array, positives: int) -> tuple[float, float]:
    """Average precision and reciprocal rank of one query's documents.

    Args:
        scores: ``[documents]``, the relevant ones first.
        positives: how many are relevant. Among equal scores the relevant ones come last: a model that can't tell
            documents apart earns nothing.
    """
    relevant = np.arange(len(scores)) < positives
    order = np.lexsort((relevant, -scores))
    gains = relevant[order].astype(float).tolist()
    return average_precision(gains), reciprocal_rank(gains)
