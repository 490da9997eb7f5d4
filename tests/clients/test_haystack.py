"""Haystack's components for Text Embeddings Inference."""

from __future__ import annotations

import pytest

pytest.importorskip("haystack_integrations.components.embedders.huggingface_api")

from haystack import Document
from haystack.utils import Secret
from haystack_integrations.components.embedders.huggingface_api import (
    HuggingFaceAPIDocumentEmbedder,
    HuggingFaceAPITextEmbedder,
)
from haystack_integrations.components.rankers.huggingface_api import HuggingFaceTEIRanker
from tests.clients.conftest import KEY
from tests.clients.texts import DOCUMENTS, QUERY, TEXTS

TOKEN = Secret.from_token(KEY)


def embedder(kind, url, **settings):
    return kind(api_type="text_embeddings_inference", api_params={"url": url}, token=TOKEN, **settings)


def test_embedders(url, own):
    """By themselves they ask for vectors that are not normalized."""
    own.check([embedder(HuggingFaceAPITextEmbedder, url).run(TEXTS[0])["embedding"]], texts=1)
    found = embedder(HuggingFaceAPIDocumentEmbedder, url).run([Document(content=text) for text in TEXTS])["documents"]
    own.check([document.embedding for document in found])
    found = embedder(HuggingFaceAPITextEmbedder, url, normalize=True, truncate=None).run(TEXTS[0])
    own.check([found["embedding"]], texts=1)


@pytest.mark.parametrize("server", ["url", "reranker_url"])
def test_ranker(server, own, request):
    ranker = HuggingFaceTEIRanker(url=request.getfixturevalue(server), top_k=3, token=TOKEN)
    found = ranker.run(query=QUERY, documents=[Document(content=text) for text in DOCUMENTS])["documents"]
    assert [document.content for document in found] == [DOCUMENTS[at] for at in own.order[:3]]
    assert [document.score for document in found] == pytest.approx(own.scores[own.order[:3]].tolist())
