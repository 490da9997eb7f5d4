"""What the page is told."""

from __future__ import annotations

import json
from dataclasses import fields

import pytest
from tests.support.servers import client_of, fake_app

from nimbed.encoder import EncoderInfo
from nimbed.server import Alias, ModelSettings, ServerSettings, create_app


async def test_what_is_loaded_and_why(app, client):
    answer = await client.get("/ui/status")
    assert answer.headers["cache-control"] == "no-store"
    said = answer.json()
    assert said["state"] == "ready"
    assert said["queue"] == {"in_flight": 0, "limit": 512}
    assert [(one["id"], one["kind"]) for one in said["models"]] == [("m", "embedder"), ("judge", "reranker")]
    names = [{"name": one.name, "role": one.role} for one in app.catalog if one.id == "m"]
    assert said["models"][0]["names"] == names
    assert {"name": "asks", "role": "query"} in names
    info = app.catalog.first().model.info
    shown = said["models"][0]["info"]
    assert set(shown) == {one.name for one in fields(EncoderInfo)} - {"artefact"}
    for name in ("backend", "precision", "fingerprint", "reasons", "prompts", "quality", "dim"):
        assert shown[name] == getattr(info, name)


async def test_no_place_of_this_machine_is_told(client, reranker_folder):
    assert str(reranker_folder.parent) not in (await client.get("/ui/status")).text


async def test_prompts_and_quality_are_told(native, prompted_folder):
    app = create_app(ServerSettings(models=[ModelSettings(model=str(prompted_folder), precision="fp32")]))
    async with client_of(app) as client:
        (model,) = (await client.get("/ui/status")).json()["models"]
    assert model["info"]["prompts"] == {"query": "query: ", "document": "passage: "}
    assert model["info"]["quality"] is None
    app.close()


async def test_counts_since_the_start(app, client):
    before = (await client.get("/ui/status")).json()["models"]
    await client.post("/v1/embeddings", json={"model": "m", "input": ["counted once", "counted twice"]})
    after = (await client.get("/ui/status")).json()["models"]
    done = [new["since_start"]["texts"] - old["since_start"]["texts"] for new, old in zip(after, before, strict=True)]
    assert done == [2, 0]
    assert after[0]["since_start"]["cache"]["entries"] >= 2
    assert after[0]["since_start"]["cache"]["limit_bytes"] == 64 * 1024 * 1024
    assert after[1]["since_start"]["cache"] is None


async def test_a_server_that_stops_says_so():
    app = fake_app()
    async with client_of(app) as client:
        app.load.draining = True
        assert (await client.get("/ui/status")).json()["state"] == "stopping"
        app.close()
        assert (await client.get("/ui/status")).status_code == 503


@pytest.mark.parametrize("kinds", ["embedder", "reranker"])
async def test_a_server_of_one_kind(native, kinds, reranker_folder):
    chosen = {
        "embedder": ModelSettings(model="m", backend="fake", cache=0),
        "reranker": ModelSettings(model=str(reranker_folder), name="judge", precision="fp32"),
    }[kinds]
    app = create_app(ServerSettings(models=[chosen], aliases=[Alias(name="other")]))
    async with client_of(app) as client:
        said = (await client.get("/ui/status")).json()
    (model,) = said["models"]
    assert model["kind"] == kinds
    assert model["since_start"]["cache"] is None
    assert set(said["recent"]["models"]) == {model["id"]}
    app.close()


async def test_no_text_is_told(client):
    await client.post("/v1/embeddings", json={"input": ["a text that is secret"]})
    assert "secret" not in json.dumps((await client.get("/ui/status")).json())
