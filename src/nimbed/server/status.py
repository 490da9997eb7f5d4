"""What the page shows: the models, why each is run as it is, and the latest minute."""

from __future__ import annotations

import time
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from nimbed import __version__
from nimbed.server.request import Answer

if TYPE_CHECKING:
    from nimbed.server.app import App
    from nimbed.server.catalog import Named
    from nimbed.server.request import Request

# The folder is the machine's own affair.
_KEPT_BACK = {"artefact"}


async def status(request: Request) -> Answer:
    """All of it, as JSON."""
    app = request.app
    said = {
        "version": __version__,
        "state": "stopping" if app.load.draining else "ready",
        "uptime_s": round(time.monotonic() - app.started),
        "queue": {"in_flight": app.load.requests, "limit": app.settings.limits.queue},
        "models": [_model(app, named) for named in app.catalog.models],
        "recent": app.recent.shown(),
    }
    return Answer.json(said)


def _model(app: App, named: Named) -> dict[str, Any]:
    """A model's names, what was chosen for it and why, and its counts since the start."""
    info, stats = named.model.info, named.model.stats()
    chosen = {one.name: getattr(info, one.name) for one in fields(info) if one.name not in _KEPT_BACK}
    chosen |= {name: dict(chosen[name]) for name in ("prompts", "reasons")}
    cache = stats.cache
    return {
        "id": named.id,
        "kind": named.model.kind,
        "names": [{"name": one.name, "role": one.role} for one in app.catalog if one.model is named.model],
        "info": chosen,
        "since_start": {
            "texts": stats.texts,
            "tokens": stats.tokens,
            "batches": stats.batches,
            "truncated": stats.truncated,
            "cache": None if cache is None else {"entries": cache.entries, "bytes": cache.bytes,
                                                 "limit_bytes": cache.limit_bytes, "shared": cache.tier is not None},
        },
    }  # fmt: skip
