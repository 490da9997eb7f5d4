"""Cohere's package for reranks, and Ollama's for vectors."""

from __future__ import annotations

import asyncio

import pytest
from tests.clients.conftest import KEY
from tests.clients.texts import DOCUMENTS, QUERY, TEXTS


@pytest.mark.parametrize("kind", ["Client", "ClientV2"])
def test_cohere(url, own, kind):
    cohere = pytest.importorskip("cohere")
    client = getattr(cohere, kind)(api_key=KEY, base_url=url)
    found = client.rerank(model="judge", query=QUERY, documents=DOCUMENTS, top_n=3)
    assert [one.index for one in found.results] == own.order[:3]
    assert [one.relevance_score for one in found.results] == pytest.approx(own.scores[own.order[:3]].tolist())


def test_coheres_errors(url):
    cohere = pytest.importorskip("cohere")
    with pytest.raises(cohere.NotFoundError, match="no such model"):
        cohere.ClientV2(api_key=KEY, base_url=url).rerank(model="other", query=QUERY, documents=DOCUMENTS)


def test_ollama(url, own, model):
    ollama = pytest.importorskip("ollama")
    client = ollama.Client(host=url, headers={"Authorization": f"Bearer {KEY}"})
    own.check(client.embed(model=f"{model}:latest", input=TEXTS, options={"num_ctx": 512}).embeddings)
    own.check(client.embed(model=model, input=TEXTS[0], keep_alive="5m").embeddings, texts=1)
    assert model in {one.model for one in client.list().models}
    with pytest.raises(ollama.ResponseError, match="no such model"):
        client.embed(model="nomic-embed-text", input="x")


def test_ollamas_older_call(url, own, model):
    ollama = pytest.importorskip("ollama")
    client = ollama.Client(host=url, headers={"Authorization": f"Bearer {KEY}"})
    own.check([client.embeddings(model=model, prompt=TEXTS[0]).embedding], texts=1)


def test_ollama_async(url, own, model):
    ollama = pytest.importorskip("ollama")
    client = ollama.AsyncClient(host=url, headers={"Authorization": f"Bearer {KEY}"})
    own.check(asyncio.run(client.embed(model=model, input=TEXTS)).embeddings)
