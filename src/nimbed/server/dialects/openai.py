"""OpenAI: ``/v1/embeddings`` and ``/v1/models``, also without ``/v1``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from nimbed.server.bodies import openai_base64, openai_floats
from nimbed.server.embedding import embed, texts_or_ids
from nimbed.server.errors import STATUS
from nimbed.server.request import Answer, Route

if TYPE_CHECKING:
    from nimbed.server.catalog import Catalog, Named
    from nimbed.server.errors import ApiError
    from nimbed.server.request import Request

_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error", 503: "server_error",
          500: "server_error"}  # fmt: skip
_CODES = {"unknown_model": "model_not_found", "unauthorized": "invalid_api_key", "overloaded": "rate_limit_exceeded"}


def error(found: ApiError) -> Answer:
    """``{"error": {message, type, param, code}}``."""
    status = STATUS[found.kind]
    said = {
        "message": found.message,
        "type": _TYPES.get(status, "invalid_request_error"),
        "param": found.param,
        "code": _CODES.get(found.kind),
    }
    return Answer.json({"error": said}, status=status)


async def embeddings(request: Request) -> Answer:
    """Vectors; ``usage`` also says how many texts were truncated."""
    fields = await request.fields()
    texts, single = await texts_or_ids(request, fields, "input")
    request.work.batch = not single
    form = fields.choice("encoding_format", ("float", "base64"), "float")
    named, data = await embed(request, fields, texts, openai_base64 if form == "base64" else openai_floats)
    tokens, truncated = request.work.tokens, request.work.truncated
    usage = {"prompt_tokens": tokens, "total_tokens": tokens, "truncated_texts": truncated}
    rest = orjson.dumps({"model": named.name, "usage": usage})[1:]
    return Answer([b'{"object":"list","data":', *data, b"," + rest])


async def models(request: Request) -> Answer:
    """All names, aliases too."""
    return Answer.json({"object": "list", "data": [_shown(named) for named in request.app.catalog]})


def by_name(catalog: Catalog) -> dict[str, Route]:
    """A route for each name, as ``models.retrieve`` of OpenAI's package asks."""

    def route(named: Named) -> Route:
        async def model(_request: Request) -> Answer:
            return Answer.json(_shown(named))

        return Route({"GET": model}, error)

    return {f"/v1/models/{named.name}": route(named) for named in catalog}


def _shown(named: Named) -> dict[str, object]:
    return {"id": named.name, "object": "model", "created": 0, "owned_by": "nimbed"}


_EMBEDDINGS = Route({"POST": embeddings}, error)
_MODELS = Route({"GET": models}, error)
ROUTES = {
    "/v1/embeddings": _EMBEDDINGS,
    "/embeddings": _EMBEDDINGS,
    "/v1/models": _MODELS,
    "/models": _MODELS,
}
