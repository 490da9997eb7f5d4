"""An application of nimbed.server on models that cost nothing, and clients of it."""

from __future__ import annotations

import signal
import socket
import threading
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import httpx

from nimbed.server import Alias, App, ModelSettings, ServerSettings, create_app

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

URL = "http://127.0.0.1:8080"
WAIT_S = 20.0


def fake_app(*, reranker: Path | None = None, aliases: list[Alias] | None = None, **settings: Any) -> App:
    """A stand-in for an embedder called "m", and a reranker called "judge" where its folder is given."""
    models = [ModelSettings(model="m", backend="fake")]
    if reranker is not None:
        models.append(ModelSettings(model=str(reranker), name="judge", precision="fp32"))
    return create_app(ServerSettings(models=models, aliases=aliases or [], **{"port": 0, **settings}))


@asynccontextmanager
async def client_of(app: App, *, base_url: str = URL, **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client that talks to the application without a socket."""
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=True)  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url=base_url, **settings) as client:
        yield client


class Held:
    """Holds the engine of an application's first model before each batch."""

    def __init__(self, app: App) -> None:
        self.rows = 0
        self.go_on, self.reached = threading.Event(), threading.Event()
        for session in app.catalog.first().model._opened().scheduler.sessions:
            session.run = partial(self._held, session.run)

    def _held(self, run: Any, batch: Any) -> Any:
        self.reached.set()
        assert self.go_on.wait(WAIT_S)
        self.rows += len(batch)
        return run(batch)


def messages(*bodies: bytes) -> Iterator[dict[str, Any]]:
    """A request's body as ASGI has it, in pieces."""
    for number, body in enumerate(bodies, 1):
        yield {"type": "http.request", "body": body, "more_body": number < len(bodies)}


class Listening:
    """An application that listens on a free port, on a thread of its own."""

    def __init__(self, app: App) -> None:
        from nimbed.server.lifecycle import Server

        self.app, self.port = app, 0
        self._listens = threading.Event()
        self._server = Server(app, self._ready)
        self._thread = threading.Thread(target=self._server.run)

    def __enter__(self) -> Listening:
        self._thread.start()
        assert self._listens.wait(WAIT_S)
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.should_exit = True
        self._thread.join(WAIT_S)
        self.app.close()

    @property
    def protocols(self) -> list[Any]:
        return list(self._server.server_state.connections)

    @property
    def connections(self) -> int:
        return len(self.protocols)

    def stop(self) -> None:
        """As SIGTERM does."""
        self._server.handle_exit(signal.SIGTERM, None)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=WAIT_S)

    def _ready(self, port: int) -> None:
        self.port = port
        self._listens.set()


def request_bytes(body: bytes, *headers: str) -> bytes:
    """A request for vectors as it is on the wire."""
    lines = ["POST /v1/embeddings HTTP/1.1", "host: localhost", "content-type: application/json", *headers]
    return "\r\n".join([*lines, f"content-length: {len(body)}", "", ""]).encode() + body


def everything(connection: socket.socket) -> bytes:
    """What comes until the other side closes."""
    found = []
    while data := connection.recv(1 << 16):
        found.append(data)
    return b"".join(found)
