"""LlamaIndex: as an OpenAI that is another's, and as Text Embeddings Inference."""

from __future__ import annotations

import asyncio

import pytest
from tests.clients.conftest import KEY
from tests.clients.texts import DOCUMENTS, QUERY, TEXTS


def check(embedding, own):
    own.check(embedding.get_text_embedding_batch(TEXTS))
    own.check([embedding.get_text_embedding(TEXTS[0])], texts=1)
    own.check([embedding.get_query_embedding(TEXTS[0])], texts=1)
    own.check(asyncio.run(embedding.aget_text_embedding_batch(TEXTS)))


def test_openai_like(url, own, model):
    package = pytest.importorskip("llama_index.embeddings.openai_like")
    check(package.OpenAILikeEmbedding(model_name=model, api_base=f"{url}/v1", api_key=KEY, max_retries=0), own)


def test_text_embeddings_inference(url, own, model):
    package = pytest.importorskip("llama_index.embeddings.text_embeddings_inference")
    check(package.TextEmbeddingsInference(model_name=model, base_url=url, auth_token=KEY), own)


def test_rerank(url, own):
    package = pytest.importorskip("llama_index.postprocessor.tei_rerank")
    schema = pytest.importorskip("llama_index.core.schema")
    nodes = [schema.NodeWithScore(node=schema.TextNode(text=text)) for text in DOCUMENTS]
    rerank = package.TextEmbeddingInference(base_url=url, top_n=3, auth_token=f"Bearer {KEY}")
    found = rerank.postprocess_nodes(nodes, query_str=QUERY)
    assert [node.text for node in found] == [DOCUMENTS[at] for at in own.order[:3]]
    assert [node.score for node in found] == pytest.approx(own.scores[own.order[:3]].tolist())
