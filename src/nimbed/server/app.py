"""The ASGI application: routes, and what all requests share."""

from __future__ import annotations

import logging
import os
import secrets
import time
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING, Any

import orjson

from nimbed.server import page, probes
from nimbed.server.catalog import Catalog
from nimbed.server.dialects import ollama, openai, rerank, tei
from nimbed.server.exchange import Exchange
from nimbed.server.load import Load
from nimbed.server.metrics import Metrics
from nimbed.server.recent import Recent
from nimbed.server.security import Guard
from nimbed.server.settings import Access, ServerSettings
from nimbed.server.tracing import Tracing

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from nimbed.server.exchange import Receive, Send
    from nimbed.server.request import Route

access_log = logging.getLogger("nimbed.access")


class App:
    """Serves models in the dialects of :mod:`nimbed.server.dialects`.

    Args:
        settings: what is served, and to whom.

    Attributes:
        settings: those.
        catalog: the models, opened.
        guard, load, metrics, recent, tracing: what all requests share.
        routes: by path.
        started: when the models were open, by the monotonic clock.

    Raises:
        NimbedError: a model cannot be opened.
    """

    def __init__(self, settings: ServerSettings) -> None:
        self.settings = settings
        self._prefix, self._numbers = secrets.token_hex(4).encode(), count()
        self.guard, self.load = Guard(settings), Load(settings.limits)
        self.tracing = Tracing(wanted=settings.traces)
        self.catalog = Catalog(settings.models, settings.aliases, self.load)
        self.metrics, self.recent = Metrics(self.catalog), Recent(self.catalog, self.load)
        self.started = time.monotonic()
        self.routes: dict[str, Route] = {
            **openai.ROUTES, **openai.by_name(self.catalog), **tei.ROUTES, **rerank.ROUTES, **ollama.ROUTES,
            **probes.ROUTES, **page.routes(),
        }  # fmt: skip

    def next_id(self) -> bytes:
        """An id for a request that brings none: 16 hexadecimal digits, of which the first eight are this server's."""
        return b"%s%08x" % (self._prefix, next(self._numbers) & 0xFFFFFFFF)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """As ASGI has it."""
        if scope["type"] == "http":
            await Exchange(self, scope, receive, send).run()
        elif scope["type"] == "lifespan":
            await self._live(receive, send)
        else:
            await send({"type": "websocket.close", "code": 1000})

    def done(self, exchange: Exchange, span: Any) -> None:  # noqa: ANN401 (OpenTelemetry's, or None)
        """A request has ended, whatever its outcome."""
        self.metrics.count(exchange)
        self.recent.ended(exchange)
        self.tracing.end(span, exchange)
        if self.settings.access_log:
            access_log.info("%s", _line(exchange))

    def close(self) -> None:
        """Close the models."""
        self.load.draining = True
        self.catalog.close()

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            kind = (await receive())["type"]
            if kind == "lifespan.shutdown":
                self.close()
            await send({"type": f"{kind}.complete"})
            if kind == "lifespan.shutdown":
                return


def create_app(settings: ServerSettings) -> App:
    """The ASGI application; opens and warms the models, so it is ready when it is there.

    To be run by any ASGI server, or mounted in another application, which then has to call :meth:`App.close` at its
    end. ``nimbed serve`` also bounds headers and idle connections, which are the ASGI server's.

    Raises:
        NimbedError: as :class:`nimbed.Encoder` raises them.

    Example:
        >>> from nimbed.server import ModelSettings, ServerSettings, create_app
        >>> app = create_app(ServerSettings(models=[ModelSettings(model="any-name", backend="fake")]))
        >>> sorted(app.catalog.names)
        ['any-name']
        >>> app.close()
    """
    return App(settings)


def from_environment() -> App:
    """As :func:`create_app`, from the TOML file that ``NIMBED_SERVE_CONFIG`` names: for ``uvicorn --factory``.

    Keys in ``NIMBED_API_KEY``, one a line, open as well.
    """
    from pathlib import Path

    from nimbed.errors import InputError
    from nimbed.server.settings_file import keys_of_environment, read_settings_file

    if not (name := os.environ.get("NIMBED_SERVE_CONFIG")):
        raise InputError("NIMBED_SERVE_CONFIG must name a settings file (TOML)")
    said = read_settings_file(Path(name))
    access = said.pop("access", Access())
    access = replace(access, keys=[*access.keys, *keys_of_environment()])
    return create_app(ServerSettings(**said, access=access))


def _line(exchange: Exchange) -> str:
    """A line of the access log: numbers, and names that are the server's own."""
    work = exchange.work
    said = {
        "id": exchange.id.decode(),
        "method": exchange.method if exchange.path != "-" else "-",
        "route": exchange.path,
        "status": exchange.status,
        "ms": round(1000 * exchange.seconds, 3),
        "model": work.model,
        "texts": work.texts,
        "tokens": work.tokens,
        "truncated": work.truncated,
    }
    return orjson.dumps(said).decode()
