"""Whether the server is alive and ready, and its counts: for load balancers, orchestrators and Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nimbed.server import page
from nimbed.server.dialects import tei
from nimbed.server.errors import ApiError, retry_later
from nimbed.server.request import Answer, Route

if TYPE_CHECKING:
    from nimbed.server.request import Request


async def live(_: Request) -> Answer:
    """The process answers; that is all."""
    return Answer()


async def ready(request: Request) -> Answer:
    """Its models are open and it takes requests: not so once it was told to stop."""
    if request.app.load.draining:
        raise retry_later("unavailable", "the server is stopping")
    return Answer()


async def metrics(request: Request) -> Answer:
    """Prometheus's text format."""
    shown = request.app.metrics.render(request.app.load.requests)
    if shown is None:
        raise ApiError("unknown_route", 'metrics need prometheus-client: pip install "nimbed[prometheus]"')
    return Answer([shown], headers=[(b"content-type", b"text/plain; version=0.0.4; charset=utf-8")])


_READY = Route({"GET": ready, "HEAD": ready}, tei.error, key="protected")
ROUTES = {
    "/": Route({"GET": ready, "HEAD": ready, "POST": tei.by_model}, tei.error, browsers=page.LED_THERE),
    "/health": _READY,
    "/readyz": _READY,
    "/ping": _READY,
    "/livez": Route({"GET": live, "HEAD": live}, tei.error, key="protected"),
    "/metrics": Route({"GET": metrics}, tei.error, key="protected"),
}
