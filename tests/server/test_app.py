"""The ASGI application as servers use it."""

from __future__ import annotations

import asyncio
import json
import logging

from tests.support.servers import client_of, fake_app

from nimbed.errors import ClosedError


async def lifespan(app, *kinds):
    waiting, sent = list(kinds), []

    async def receive():
        return {"type": f"lifespan.{waiting.pop(0)}"}

    async def send(message):
        sent.append(message["type"])

    await asyncio.wait_for(app({"type": "lifespan"}, receive, send), 20)
    return sent


async def test_the_end_of_the_server_closes_the_models():
    app = fake_app()
    assert await lifespan(app, "startup", "shutdown") == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    async with client_of(app) as client:
        answer = await client.post("/v1/embeddings", json={"input": "a"})
    assert answer.status_code == 503
    assert ClosedError.__name__ not in answer.text


async def test_websockets_are_closed(app):
    sent = []

    async def send(message):
        sent.append(message)

    await app({"type": "websocket"}, None, send)
    assert sent == [{"type": "websocket.close", "code": 1000}]


async def test_the_access_log_has_numbers_and_no_text(caplog):
    app = fake_app(access_log=True)
    caplog.set_level(logging.INFO, "nimbed.access")
    async with client_of(app) as client:
        await client.post("/v1/embeddings", json={"input": ["a secret text"]}, headers={"x-request-id": "r-1"})
        await client.post("/a-secret-path?text=secret", json={})
    first, second = [json.loads(one.getMessage()) for one in caplog.records if one.name == "nimbed.access"]
    assert first.pop("ms") > 0
    assert first == {"id": "r-1", "method": "POST", "route": "/v1/embeddings", "status": 200, "model": "m", "texts": 1,
                     "tokens": 15, "truncated": 0}  # fmt: skip
    assert second["route"] == "-"
    assert "secret" not in caplog.text
    app.close()
