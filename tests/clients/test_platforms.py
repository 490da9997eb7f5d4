"""The bodies that platforms send, as their own code has them, and what they read in the answers.

Read in: Dify's plugins of 2026-08-21 (langgenius/dify-official-plugins, commit 7af22831: models/huggingface_tei 0.1.10
and models/openai_api_compatible 0.0.63); Open WebUI 0.10 (backend/open_webui/retrieval/utils.py and
retrieval/models/external.py); n8n (packages/@n8n/nodes-langchain, EmbeddingsOpenAi.node.ts and
EmbeddingsOllama.node.ts) with LangChain.js (libs/langchain-ollama/src/embeddings.ts); AnythingLLM 1.16.0
(commit 72aabbd1: server/utils/EmbeddingEngines, which uses openai 4.95 and ollama 0.6 for Node).
"""

from __future__ import annotations

import base64

import httpx
import numpy as np
import pytest
from tests.clients.conftest import KEY
from tests.clients.texts import DOCUMENTS, QUERY, TEXTS

BEARER = {"Authorization": f"Bearer {KEY}"}


def ask(address, body, **headers):
    answer = httpx.post(address, json=body, headers={**BEARER, **headers}, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.json()


def get(address):
    answer = httpx.get(address, headers=BEARER)
    assert answer.status_code == 200, answer.text
    return answer.json()


def check_ranks(results, own, name, count=None):
    assert [one["index"] for one in results] == own.order[:count]
    assert [one[name] for one in results] == pytest.approx(own.scores[own.order[:count]].tolist())


def openai_vectors(answer):
    return [one["embedding"] for one in answer["data"]]


class TestDify:
    def test_tei_embedding(self, url, own):
        """It takes the first key of model_type, and sends as many texts as /info lets it; no model is named."""
        said = get(f"{url}/info")
        assert next(iter(said["model_type"])) == "embedding"
        assert said["max_input_length"] == 256
        assert int(said["max_client_batch_size"]) > len(TEXTS)
        own.check(openai_vectors(ask(f"{url}/v1/embeddings", {"input": TEXTS})))

    def test_tei_rerank(self, reranker_url, own):
        assert next(iter(get(f"{reranker_url}/info")["model_type"])) == "reranker"
        found = ask(f"{reranker_url}/rerank", {"query": QUERY, "texts": DOCUMENTS, "return_text": True})
        check_ranks(found, own, "score")
        assert [one["text"] for one in found] == [DOCUMENTS[at] for at in own.order]

    def test_openai_compatible(self, url, own, model):
        answer = ask(f"{url}/v1/embeddings", {"model": model, "input": TEXTS, "encoding_format": "float"})
        own.check(openai_vectors(answer))
        assert answer["usage"]["prompt_tokens"] > 0
        body = {"model": "judge", "query": QUERY, "documents": DOCUMENTS, "top_n": 3}
        check_ranks(ask(f"{url}/v1/rerank", body)["results"], own, "relevance_score", 3)


class TestOpenWebUI:
    def test_openai_engine(self, url, own, model):
        user = {"X-OpenWebUI-User-Name": "Jos%C3%A9", "X-OpenWebUI-User-Role": "user"}
        own.check(openai_vectors(ask(f"{url}/v1/embeddings", {"input": TEXTS, "model": model}, **user)))

    def test_a_prefix_field_carries_the_role(self, url, own):
        """RAG_EMBEDDING_PREFIX_FIELD_NAME=input_type, and the two prefixes are the roles."""
        for role in ("query", "document"):
            body = {"input": TEXTS, "model": "embed-documents", "input_type": role}
            own.check(openai_vectors(ask(f"{url}/v1/embeddings", body)), role)
            own.check(ask(f"{url}/api/embed", {**body, "truncate": True})["embeddings"], role)

    def test_ollama_engine(self, url, own, model):
        own.check(ask(f"{url}/api/embed", {"input": TEXTS, "model": model, "truncate": True})["embeddings"])

    def test_external_reranker(self, url, own):
        body = {"model": "judge", "query": QUERY, "documents": DOCUMENTS, "top_n": len(DOCUMENTS)}
        check_ranks(ask(f"{url}/v1/rerank", body)["results"], own, "relevance_score")


class TestN8n:
    def test_the_list_of_models_has_names_with_embed(self, url):
        found = [one["id"] for one in get(f"{url}/v1/models")["data"] if "embed" in one["id"]]
        assert {"text-embedding-3-small", "embed-documents", "embed-queries"} <= set(found)

    def test_openai_node(self, url, own):
        """LangChain.js sends texts, not token ids, and asks for no form or for base64; new lines are spaces."""
        body = {"model": "text-embedding-3-small", "input": [text.replace("\n", " ") for text in TEXTS]}
        own.check(openai_vectors(ask(f"{url}/v1/embeddings", body)))
        answer = ask(f"{url}/v1/embeddings", {**body, "encoding_format": "base64"})
        own.check([np.frombuffer(base64.b64decode(one), "<f4") for one in openai_vectors(answer)])

    def test_roles_by_two_names(self, url, own):
        for name, role in (("embed-documents", "document"), ("embed-queries", "query")):
            own.check(openai_vectors(ask(f"{url}/v1/embeddings", {"model": name, "input": TEXTS})), role)

    def test_ollama_node(self, url, own, model):
        """LangChain.js says that texts may not lose tokens; its list of models is /api/tags."""
        assert model in {one["name"] for one in get(f"{url}/api/tags")["models"]}
        body = {"model": model, "input": TEXTS, "keep_alive": "5m", "options": {}, "truncate": False}
        own.check(ask(f"{url}/api/embed", body)["embeddings"])


class TestAnythingLLM:
    def test_generic_openai(self, url, own, model):
        """openai 4.95 for Node asks for base64 by itself."""
        body = {"model": model, "input": TEXTS, "encoding_format": "base64"}
        answer = ask(f"{url}/v1/embeddings", body, **{"User-Agent": "OpenAI/JS 4.95.1", "X-Stainless-Lang": "js"})
        own.check([np.frombuffer(base64.b64decode(one), "<f4") for one in openai_vectors(answer)])

    def test_local_ai(self, url, own, model):
        body = {"model": model, "input": TEXTS, "encoding_format": "float"}
        own.check(openai_vectors(ask(f"{url}/v1/embeddings", body)))

    def test_lm_studio(self, url, own, model):
        """It looks whether there are models, then sends one text after the other."""
        assert get(f"{url}/v1/models")["data"]
        body = {"model": model, "input": TEXTS[0], "encoding_format": "base64"}
        (one,) = openai_vectors(ask(f"{url}/v1/embeddings", body))
        own.check([np.frombuffer(base64.b64decode(one), "<f4")], texts=1)

    def test_ollama(self, url, own, model):
        """It looks whether the root answers, then sends a batch with the length that its user chose."""
        assert httpx.get(url, headers=BEARER).is_success
        body = {"model": model, "input": TEXTS, "options": {"num_ctx": 8192}}
        own.check(ask(f"{url}/api/embed", body)["embeddings"])
