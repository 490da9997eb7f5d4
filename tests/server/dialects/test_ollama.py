"""Ollama's dialect, as Open WebUI and langchain-ollama use it."""

from __future__ import annotations

import numpy as np
import pytest
from tests.support.servers import client_of

from nimbed import Encoder
from nimbed.server import ModelSettings, ServerSettings, create_app


async def test_embed(client):
    with Encoder("m", backend="fake") as encoder:
        vectors = encoder.encode(["a cat", "a dog"])
    answer = (await client.post("/api/embed", json={"model": "m:latest", "input": ["a cat", "a dog"]})).json()
    np.testing.assert_array_equal(np.array(answer["embeddings"], np.float32), vectors)
    assert answer["model"] == "m:latest"
    assert answer["prompt_eval_count"] == 14
    assert answer["total_duration"] > 0
    one = (await client.post("/api/embed", json={"model": "m", "input": "a cat"})).json()
    np.testing.assert_array_equal(np.float32(one["embeddings"][0]), vectors[0])


async def test_vectors_have_norm_1_also_where_the_models_have_not(plain_folder, native):
    app = create_app(ServerSettings(models=[ModelSettings(model=str(plain_folder), precision="fp32")]))
    async with client_of(app) as client:
        for body in ({"input": "a cat"}, {"input": "a cat", "dimensions": 16}):
            (vector,) = (await client.post("/api/embed", json=body)).json()["embeddings"]
            assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
        older = (await client.post("/api/embeddings", json={"prompt": "a cat"})).json()["embedding"]
        assert np.linalg.norm(older) > 1.1
    app.close()


async def test_the_older_call_has_one_text(client):
    with Encoder("m", backend="fake") as encoder:
        vector = encoder.encode(["a cat"])[0]
    found = await client.post("/api/embeddings", json={"model": "m", "prompt": "a cat"})
    np.testing.assert_array_equal(np.array(found.json()["embedding"], np.float32), vector)
    assert (await client.post("/api/embeddings", json={"model": "m"})).status_code == 400


async def test_tags_lists_the_embedders(client):
    found = (await client.get("/api/tags")).json()["models"]
    assert [one["name"] for one in found] == ["m", "text-embedding-3-small", "asks"]


async def test_errors(client):
    answer = await client.post("/api/embed", json={"model": "none", "input": "a"})
    assert answer.status_code == 404
    assert set(answer.json()) == {"error"}
    assert (await client.post("/api/embed", json={"input": "x" * 600, "truncate": False})).status_code == 413
