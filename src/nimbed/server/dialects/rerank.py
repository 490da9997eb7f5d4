"""Reranking: Cohere's and Jina's ``{query, documents}``, and on ``/rerank`` also TEI's ``{query, texts}``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nimbed.server.embedding import score
from nimbed.server.errors import STATUS, ApiError
from nimbed.server.fields import is_texts
from nimbed.server.request import Answer, Route

if TYPE_CHECKING:
    from nimbed._types import Float32Array
    from nimbed.server.fields import Fields
    from nimbed.server.request import Request


def error(found: ApiError) -> Answer:
    """Cohere reads ``message``, Jina ``detail``."""
    return Answer.json({"message": found.message, "detail": found.message}, status=STATUS[found.kind])


async def rerank(request: Request) -> Answer:
    """``{results: [{index, relevance_score}]}``, best first."""
    fields = await request.fields()
    return await cohere_results(request, fields)


async def cohere_results(request: Request, fields: Fields) -> Answer:
    """Of documents that are strings, or objects with a ``text``."""
    query, documents = fields.text("query"), fields.any("documents")
    texts = await request.apart(_texts, fields, documents)
    request.work.batch = True
    top, shown = fields.whole("top_n"), fields.flag("return_documents", default=False)
    named, scores = await score(request, fields, texts, query)

    def answer() -> Answer:
        results: list[dict[str, Any]] = []
        for at in ranked(scores)[:top]:
            document = {"document": {"text": texts[at]}} if shown else {}
            results.append({"index": at, "relevance_score": float(scores[at]), **document})
        usage = {"prompt_tokens": request.work.tokens, "total_tokens": request.work.tokens}
        return Answer.json({"model": named.name, "results": results, "usage": usage, "meta": {"billed_units": {}}})

    return await request.apart(answer)


async def tei_ranks(request: Request, fields: Fields) -> Answer:
    """``[{index, score}]``, best first, with ``text`` where ``return_text`` asks for it."""
    query, texts = fields.text("query"), await request.apart(fields.texts, "texts")
    request.work.batch = True
    raw, shown = fields.flag("raw_scores", default=False), fields.flag("return_text", default=False)
    _, scores = await score(request, fields, texts, query, raw=raw)

    def answer() -> Answer:
        places = ranked(scores)
        found = [{"index": at, **({"text": texts[at]} if shown else {}), "score": float(scores[at])} for at in places]
        return Answer.json(found)

    return await request.apart(answer)


def ranked(scores: Float32Array) -> list[int]:
    """The places of scores from the highest down; equal ones keep their order."""
    return [int(at) for at in np.argsort(-scores, kind="stable")]


def _texts(fields: Fields, documents: object) -> list[str]:
    if not isinstance(documents, list):
        raise ApiError("invalid", "documents must be a list", param="documents")
    texts = [one.get("text") if isinstance(one, dict) else one for one in documents]
    if not is_texts(texts):
        raise ApiError("invalid", "documents must be strings, or objects with a text", param="documents")
    if not texts:
        raise ApiError("empty", "documents cannot be empty", param="documents")
    fields.check_length(texts, "documents")
    return texts


_RERANK = Route({"POST": rerank}, error)
ROUTES = {"/v1/rerank": _RERANK, "/v2/rerank": _RERANK}
