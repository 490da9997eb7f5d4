"""One request: whatever ends it early frees its work, and whatever goes wrong has an answer."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from functools import partial

import pytest
from tests.support.servers import WAIT_S, Held, client_of, fake_app, messages

from nimbed.errors import BackendError, OutOfMemoryError
from nimbed.server import Limits

BODY = {"input": ["a cat"]}


class Call:
    """A request at the level of ASGI, whose client may go at any time."""

    def __init__(self, app, *bodies, headers=(), path="/v1/embeddings", scope=None):
        self.gone, self.sent = asyncio.Event(), []
        self._messages = messages(*bodies)
        kind = [(b"host", b"localhost"), (b"content-type", b"application/json"), *headers]
        self.scope = {"type": "http", "method": "POST", "path": path, "headers": kind, **(scope or {})}
        self.task = asyncio.ensure_future(app(self.scope, self.receive, self.send))

    async def receive(self):
        for message in self._messages:
            return message
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message):
        self.sent.append(message)

    @property
    def status(self):
        return self.sent[0]["status"]

    @property
    def headers(self):
        return dict(self.sent[0]["headers"])

    @property
    def error(self):
        return json.loads(self.sent[1]["body"])["error"]["message"]


@pytest.fixture
def small():
    app = fake_app(limits=Limits(body_bytes=1000, timeout_s=0.2, queue=2))
    yield app
    app.close()


def many(count):
    return json.dumps({"input": [f"text {number}" for number in range(count)]}).encode()


async def test_a_client_that_goes_away_frees_its_work():
    app = fake_app()
    held = Held(app)
    call = Call(app, many(600))
    await asyncio.to_thread(held.reached.wait, WAIT_S)
    call.gone.set()
    await asyncio.wait_for(call.task, WAIT_S)
    assert call.sent == []
    assert app.load.requests == 0
    assert app.catalog.first().model.stats().queue_depth == 0
    held.go_on.set()
    async with client_of(app) as client:
        assert (await client.post("/v1/embeddings", json=BODY)).status_code == 200
        assert 'status="499"' in (await client.get("/metrics")).text
    assert held.rows < 600
    app.close()


async def test_a_client_that_goes_while_it_sends(small):
    call = Call(small, b"{")
    call._messages = messages(b"{", b"")
    next(call._messages)
    call._messages = iter([])
    call.gone.set()
    await asyncio.wait_for(call.task, WAIT_S)
    assert call.sent == []
    assert small.load.requests == 0


async def test_an_answer_that_takes_too_long_is_503(small):
    held = Held(small)
    call = Call(small, json.dumps(BODY).encode())
    await asyncio.wait_for(call.task, WAIT_S)
    assert call.status == 503
    assert b"retry-after" in call.headers
    assert "0.2 seconds" in call.error
    held.go_on.set()


async def test_a_long_list_may_take_as_long_as_it_goes_on():
    app = fake_app(limits=Limits(timeout_s=1))
    model = app.catalog.first().model
    model._pace = lambda _: None  # a slice for each of the texts, two at a time

    def slowly(run, batch):
        time.sleep(0.3)
        return run(batch)

    for session in model._opened().scheduler.sessions:
        session.run = partial(slowly, session.run)
    began = time.monotonic()
    call = Call(app, json.dumps({"input": [f"{number}" * 8_000 for number in range(10)]}).encode())
    await asyncio.wait_for(call.task, WAIT_S)
    assert call.status == 200
    assert time.monotonic() - began > 1
    app.close()


async def test_a_body_that_does_not_come_is_408(small):
    call = Call(small, b'{"input"', b": 1}")
    call._messages = iter([next(messages(b"{", b"}"))])
    await asyncio.wait_for(call.task, WAIT_S)
    assert call.status == 408
    assert call.headers[b"connection"] == b"close"


@pytest.mark.parametrize("bodies", [(b"x" * 1001,), (b"x" * 600, b"x" * 600)])
async def test_a_body_that_is_too_large_is_413(small, bodies):
    call = Call(small, *bodies)
    await call.task
    assert call.status == 413


@pytest.mark.parametrize("length", [b"1001", b"-1", b"x", b"9" * 30, b"1_0"])
async def test_a_length_that_cannot_be_is_413_before_it_is_read(small, length):
    call = Call(small, b"{}", headers=[(b"content-length", length)])
    await call.task
    assert call.status == 413


async def test_a_body_in_pieces_is_one(small):
    call = Call(small, b'{"inp', b'ut": ', b'"a cat"}')
    await call.task
    assert call.status == 200


async def test_a_full_queue_is_429(small):
    held = Held(small)
    waiting = [Call(small, json.dumps(BODY).encode()) for _ in range(2)]
    await asyncio.to_thread(held.reached.wait, WAIT_S)
    refused = Call(small, json.dumps(BODY).encode())
    await refused.task
    assert refused.status == 429
    assert refused.headers[b"retry-after"] == b"1"
    held.go_on.set()
    for call in waiting:
        await call.task
        assert call.status == 200


@pytest.mark.parametrize("error", [BackendError("boom"), OutOfMemoryError("boom")])
async def test_an_engine_that_fails_is_503(error):
    app = fake_app()

    def run(batch):
        raise error

    for session in app.catalog.first().model._opened().scheduler.sessions:
        session.run = run
    async with client_of(app) as client:
        answer = await client.post("/v1/embeddings", json=BODY)
        assert answer.status_code == 503
        assert (await client.post("/embed", json={"inputs": "a"})).json()["error_type"] == "Unhealthy"
    app.close()


async def test_what_nobody_foresaw_is_500_and_its_log_has_no_text(app, client, caplog, monkeypatch):
    words = "a secret text"

    def broken(name):
        raise RuntimeError(words)

    monkeypatch.setattr(app.catalog, "embedder", broken)
    with caplog.at_level(logging.ERROR):
        answer = await client.post("/v1/embeddings", json={"input": words}, headers={"x-request-id": "r-1"})
    assert answer.status_code == 500
    (record,) = [one for one in caplog.records if one.name == "nimbed"]
    said = logging.Formatter().format(record)
    assert "request r-1 met RuntimeError" in said
    assert "secret" not in said


async def test_request_ids_are_kept_or_made(client):
    kept = await client.post("/v1/embeddings", json=BODY, headers={"x-request-id": "abc-1"})
    assert kept.headers["x-request-id"] == "abc-1"
    made = [(await client.post("/embed", json={}, headers={"x-request-id": "no<good>"})).headers["x-request-id"]
            for _ in range(2)]  # fmt: skip
    assert len(set(made)) == 2
    assert all(len(one) == 16 for one in made)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/v1/embeddings", 405), ("DELETE", "/embed", 405), ("GET", "/none", 404), ("POST", "/v1/none", 404),
     ("HEAD", "/health", 200), ("OPTIONS", "/embed", 405)],
)  # fmt: skip
async def test_routes_and_methods(client, method, path, status):
    answer = await client.request(method, path, headers={"content-type": "application/json"})
    assert answer.status_code == status
    assert ("allow" in answer.headers) == (status == 405)
    assert "<" not in answer.text


async def test_mounted_below_a_path(app):
    call = Call(app, json.dumps(BODY).encode(), path="/search/v1/embeddings", scope={"root_path": "/search"})
    await call.task
    assert call.status == 200


async def test_what_the_drain_leaves_no_time_for_is_told_to_come_again(small):
    held = Held(small)
    call = Call(small, json.dumps(BODY).encode())
    await asyncio.to_thread(held.reached.wait, WAIT_S)
    small.load.draining = True
    call.task.cancel()
    await call.task
    assert (call.status, call.headers[b"retry-after"], call.error) == (503, b"1", "the server is stopping")
    held.go_on.set()


async def test_a_long_answer_is_sent_in_pieces_and_held_until_it_is():
    app, held = fake_app(), []

    class Watched(Call):
        async def send(self, message):
            held.append(app.load.bytes)
            await super().send(message)

    call = Watched(app, many(300))
    await call.task
    sizes = [len(message["body"]) for message in call.sent[1:]]
    assert len(sizes) > 2
    assert max(sizes) <= 256 * 1024
    assert [message.get("more_body", False) for message in call.sent[1:]] == [True] * (len(sizes) - 1) + [False]
    assert len(json.loads(b"".join(message["body"] for message in call.sent[1:]))["data"]) == 300
    assert int(call.headers[b"content-length"]) == sum(sizes)
    assert held == [sum(sizes), *(sum(sizes[at:]) for at in range(len(sizes)))]
    assert app.load.bytes == 0
    app.close()


async def test_the_servers_own_end_is_not_swallowed(small):
    held = Held(small)
    call = Call(small, json.dumps(BODY).encode())
    await asyncio.to_thread(held.reached.wait, WAIT_S)
    call.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call.task
    assert small.load.requests == 0
    held.go_on.set()
