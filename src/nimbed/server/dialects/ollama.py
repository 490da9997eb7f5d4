"""Ollama: ``/api/embed``, ``/api/embeddings`` of its older clients, and ``/api/tags``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import orjson

from nimbed.server.bodies import plain
from nimbed.server.embedding import embed
from nimbed.server.errors import STATUS
from nimbed.server.models import Embedder
from nimbed.server.request import Answer, Route

if TYPE_CHECKING:
    from nimbed.server.catalog import Named
    from nimbed.server.errors import ApiError
    from nimbed.server.request import Request


def error(found: ApiError) -> Answer:
    """``{error}``."""
    return Answer.json({"error": found.message}, status=STATUS[found.kind])


async def embeds(request: Request) -> Answer:
    """Vectors of one text or several; a model's name may end in ``:latest``, as Ollama's do."""
    started, fields = time.perf_counter_ns(), await request.fields()
    value = fields.any("input")
    texts = [fields.text("input")] if isinstance(value, str) else await request.apart(fields.texts, "input")
    request.work.batch = not isinstance(value, str)
    named, vectors = await embed(request, fields, texts, plain, normalize=True)  # as Ollama does, here alone
    rest = {
        "model": fields.name("model") or named.name,
        "total_duration": time.perf_counter_ns() - started,
        "load_duration": 0,
        "prompt_eval_count": request.work.tokens,
    }
    return Answer([b'{"embeddings":', *vectors, b"," + orjson.dumps(rest)[1:]])


async def embeds_one(request: Request) -> Answer:
    """The vector of one text, ``prompt``."""
    fields = await request.fields()
    _, vectors = await embed(request, fields, [fields.text("prompt")], plain)
    return Answer([b'{"embedding":', b"".join(vectors)[1:-1], b"}"])


async def tags(request: Request) -> Answer:
    """The embedders, by all their names."""
    embedders = [named for named in request.app.catalog if isinstance(named.model, Embedder)]
    return Answer.json({"models": [_shown(named) for named in embedders]})


def _shown(named: Named) -> dict[str, object]:
    info = named.model.info
    details = {"family": "embedding", "format": info.backend, "quantization_level": info.precision}
    shown = {"name": named.name, "model": named.name, "modified_at": "1970-01-01T00:00:00Z", "size": 0}
    return {**shown, "digest": info.fingerprint, "details": details}


ROUTES = {
    "/api/embed": Route({"POST": embeds}, error),
    "/api/embeddings": Route({"POST": embeds_one}, error),
    "/api/tags": Route({"GET": tags}, error),
}
