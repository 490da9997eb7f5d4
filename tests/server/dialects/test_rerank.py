"""Reranking in three dialects, against the Reranker itself."""

from __future__ import annotations

import numpy as np
import pytest
from tests.support.cross_encoders import DOCUMENTS, QUERY

from nimbed import Reranker
from nimbed.server.dialects.rerank import ranked


@pytest.fixture(scope="module")
def scores(native, reranker_folder):
    with Reranker(reranker_folder, precision="fp32") as reranker:
        assert reranker.info.task is None
        return reranker.scores(QUERY, DOCUMENTS)


async def test_tei_ranks_best_first(client, scores):
    found = (await client.post("/rerank", json={"query": QUERY, "texts": DOCUMENTS, "model": "judge"})).json()
    assert [one["index"] for one in found] == ranked(scores)
    np.testing.assert_allclose([one["score"] for one in found], np.sort(scores)[::-1], rtol=1e-6)
    assert all(set(one) == {"index", "score"} for one in found)


async def test_tei_raw_scores_are_logits_and_return_text_the_texts(client, scores):
    body = {"query": QUERY, "texts": DOCUMENTS, "raw_scores": True, "return_text": True}
    found = (await client.post("/rerank", json=body)).json()
    assert [one["text"] for one in found] == [DOCUMENTS[one["index"]] for one in found]
    logits = np.array([one["score"] for one in found])
    np.testing.assert_allclose(1 / (1 + np.exp(-logits)), np.sort(scores)[::-1], rtol=1e-5)


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank", "/rerank"])
async def test_cohere_and_jina(client, scores, path):
    body = {"query": QUERY, "documents": DOCUMENTS, "top_n": 3, "return_documents": True, "model": "judge"}
    answer = (await client.post(path, json=body)).json()
    assert [one["index"] for one in answer["results"]] == ranked(scores)[:3]
    assert all(one["document"]["text"] == DOCUMENTS[one["index"]] for one in answer["results"])
    assert answer["results"][0]["relevance_score"] == pytest.approx(float(scores.max()), rel=1e-6)
    assert answer["usage"]["total_tokens"] > len(DOCUMENTS)


async def test_documents_may_be_objects(client, scores):
    body = {"query": QUERY, "documents": [{"text": text} for text in DOCUMENTS]}
    answer = (await client.post("/v1/rerank", json=body)).json()
    assert [one["index"] for one in answer["results"]] == ranked(scores)
    assert "document" not in answer["results"][0]


@pytest.mark.parametrize(
    "body",
    [
        {"query": "q", "documents": []},
        {"query": "q", "documents": "text"},
        {"query": "q", "documents": [{"title": "t"}]},
        {"query": "q", "documents": [1]},
        {"query": ["q"], "documents": ["d"]},
        {"documents": ["d"]},
        {"query": "q", "documents": ["d"], "top_n": 0},
        {"query": "q", "documents": ["d"], "model": "m"},
    ],
)
async def test_errors_have_message_and_detail(client, body):
    answer = await client.post("/v1/rerank", json=body)
    assert answer.status_code == 400
    assert answer.json()["message"] == answer.json()["detail"] != ""


def test_equal_scores_keep_their_order():
    assert ranked(np.float32([1, 2, 1, 2])) == [1, 3, 0, 2]
