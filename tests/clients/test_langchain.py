"""LangChain's OpenAI and Hugging Face packages."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.clients.conftest import KEY
from tests.clients.texts import TEXTS


@pytest.fixture
def openai_embeddings(url, model, monkeypatch):
    package = pytest.importorskip("langchain_openai")
    core = pytest.importorskip("llama_index.core")
    # It ships OpenAI's vocabulary, which langchain-openai would download.
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(Path(core.__file__).parent / "_static" / "tiktoken_cache"))

    def made(**settings):
        return package.OpenAIEmbeddings(model=model, base_url=f"{url}/v1", api_key=KEY, max_retries=0, **settings)

    return made


def test_token_ids_are_refused_with_what_helps(openai_embeddings):
    """By itself it sends those of another tokenizer, which would give wrong vectors in silence."""
    with pytest.raises(Exception, match="check_embedding_ctx_length=False") as found:
        openai_embeddings().embed_documents(TEXTS)
    assert type(found.value).__name__ == "BadRequestError"


def test_openai_embeddings(openai_embeddings, own):
    embeddings = openai_embeddings(check_embedding_ctx_length=False)
    own.check(embeddings.embed_documents(TEXTS))
    own.check([embeddings.embed_query(TEXTS[0])], texts=1)
    own.check(asyncio.run(embeddings.aembed_documents(TEXTS)))


def test_hugging_face_endpoint(url, own):
    """It takes no URL for a model, so that it is given its clients."""
    package, hub = pytest.importorskip("langchain_huggingface"), pytest.importorskip("huggingface_hub")
    embeddings = package.HuggingFaceEndpointEmbeddings(model="sentence-transformers/all-MiniLM-L6-v2")
    embeddings.client = hub.InferenceClient(model=url, token=KEY)
    embeddings.async_client = hub.AsyncInferenceClient(model=url, token=KEY)
    own.check(embeddings.embed_documents(TEXTS))
    own.check([embeddings.embed_query(TEXTS[0])], texts=1)
    own.check(asyncio.run(embeddings.aembed_documents(TEXTS)))
