"""OpenAI's dialect: what its SDK and LangChain send, and what they hear."""

from __future__ import annotations

import base64

import numpy as np
import pytest

from nimbed import Encoder

TEXTS = ["The cat sat on the mat.", "Prices rose in May.", ""]


@pytest.fixture(scope="module")
def vectors():
    with Encoder("m", backend="fake") as encoder:
        yield encoder.encode(TEXTS)


@pytest.mark.parametrize("path", ["/v1/embeddings", "/embeddings"])
async def test_floats_are_the_encoders_own(client, vectors, path):
    answer = (await client.post(path, json={"input": TEXTS, "model": "m"})).json()
    assert answer["object"] == "list"
    assert answer["model"] == "m"
    assert [item["index"] for item in answer["data"]] == [0, 1, 2]
    assert {item["object"] for item in answer["data"]} == {"embedding"}
    np.testing.assert_array_equal(np.array([i["embedding"] for i in answer["data"]], np.float32), vectors)


async def test_base64_is_the_same_vectors(client, vectors):
    answer = (await client.post("/v1/embeddings", json={"input": TEXTS, "encoding_format": "base64"})).json()
    found = [np.frombuffer(base64.b64decode(item["embedding"]), "<f4") for item in answer["data"]]
    np.testing.assert_array_equal(np.array(found), vectors)


async def test_one_text_without_a_model(client, vectors):
    answer = (await client.post("/v1/embeddings", json={"input": TEXTS[0], "encoding_format": None})).json()
    np.testing.assert_array_equal(np.float32(answer["data"][0]["embedding"]), vectors[0])


async def test_usage_counts_tokens_whether_or_not_the_cache_has_them(client):
    body = {"input": ["counted once", "counted twice"]}
    first, again = [(await client.post("/v1/embeddings", json=body)).json()["usage"] for _ in range(2)]
    assert first == again
    assert first["prompt_tokens"] == first["total_tokens"] == sum(len(text) + 2 for text in body["input"])


async def test_truncation_is_told_in_usage_and_in_a_header(client):
    answer = await client.post("/v1/embeddings", json={"input": ["x" * 600, "short"]})
    assert answer.json()["usage"]["truncated_texts"] == 1
    assert answer.headers["x-truncated-texts"] == "1"
    refused = await client.post("/v1/embeddings", json={"input": ["short", "x" * 600], "truncate": False})
    assert refused.status_code == 413
    assert "item 1 has 602 tokens" in refused.json()["error"]["message"]


async def test_dimensions_cut_and_normalize(client, vectors):
    answer = (await client.post("/v1/embeddings", json={"input": TEXTS[:2], "dimensions": 64})).json()
    found = np.array([item["embedding"] for item in answer["data"]], np.float32)
    cut = vectors[:2, :64] / np.linalg.norm(vectors[:2, :64], axis=1, keepdims=True)
    np.testing.assert_allclose(found, cut, atol=1e-6)


@pytest.mark.parametrize("ids", [[15339, 1917], [[15339, 1917], [9906]]])
async def test_token_ids_are_refused_with_the_remedy(client, ids):
    answer = await client.post("/v1/embeddings", json={"input": ids})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert "check_embedding_ctx_length=False" in error["message"]
    assert error["param"] == "input"


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"input": []}, 400, "input"),
        ({}, 400, "input"),
        ({"input": ["a", 1]}, 400, "input"),
        ({"input": {"a": 1}}, 400, "input"),
        ({"input": "a", "dimensions": 0}, 400, "dimensions"),
        ({"input": "a", "dimensions": 385}, 400, "dimensions"),
        ({"input": "a", "dimensions": True}, 400, "dimensions"),
        ({"input": "a", "encoding_format": "int8"}, 400, "encoding_format"),
        ({"input": "a", "input_type": "classification"}, 400, "input_type"),
        ({"input": "a", "prompt_name": "none such"}, 400, "prompt_name"),
        ({"input": "a", "model": "gpt"}, 404, "model"),
        ({"input": "a", "model": "judge"}, 400, "model"),
    ],
)
async def test_errors_are_nested_and_name_the_field(client, body, status, param):
    answer = await client.post("/v1/embeddings", json=body)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["param"] == param
    assert (error["code"] == "model_not_found") == (status == 404)


async def test_models_lists_every_name(client):
    found = (await client.get("/v1/models")).json()["data"]
    assert [one["id"] for one in found] == ["m", "judge", "text-embedding-3-small", "asks"]
    answer = (await client.post("/v1/embeddings", json={"input": "a", "model": "text-embedding-3-small"})).json()
    assert answer["model"] == "text-embedding-3-small"


async def test_a_model_by_its_name(client):
    for name in ("m", "text-embedding-3-small"):
        found = await client.get(f"/v1/models/{name}")
        assert found.json() == {"id": name, "object": "model", "created": 0, "owned_by": "nimbed"}
    assert (await client.get("/v1/models/another")).status_code == 404
