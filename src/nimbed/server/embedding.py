"""What the dialects have in common: texts of a request to written vectors or scores."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

import numpy as np

from nimbed.server.bodies import count, written
from nimbed.server.errors import ApiError
from nimbed.server.fields import is_ids, is_texts
from nimbed.server.models import Asked
from nimbed.server.tokens import text_of_ids

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from nimbed._types import Float32Array, Pair, Role
    from nimbed.server.bodies import Write
    from nimbed.server.catalog import Named
    from nimbed.server.fields import Fields
    from nimbed.server.gathering import Computed
    from nimbed.server.models import Embedder, Scorer
    from nimbed.server.request import Request

# Cohere's, Voyage's, Jina's and NVIDIA's words for the two roles.
_INPUT_TYPES: dict[str, Role] = {
    "query": "query",
    "search_query": "query",
    "retrieval.query": "query",
    "document": "document",
    "passage": "document",
    "search_document": "document",
    "retrieval.passage": "document",
}
_JINA_TASKS = ("retrieval.query", "retrieval.passage")  # the field is Jina's own, which has tasks of other kinds too
# Cohere's and NVIDIA's words for what is cut off, and the side that this is.
_KEPT = {"NONE": None, "END": "right", "START": "left"}
_REFUSED_IDS = (
    "{name} holds token ids, and these may be another tokenizer's: langchain-openai sends those of cl100k_base unless "
    "OpenAIEmbeddings(check_embedding_ctx_length=False) is said. Send texts; or start the server with --token-ids own "
    "if the ids are this model's own"
)


async def embed(
    request: Request,
    fields: Fields,
    texts: list[str],
    write: Write,
    *,
    normalize: bool | None = None,
) -> tuple[Named, list[bytes]]:
    """Vectors of texts, written, by the request's ``model``, ``input_type``, ``prompt_name`` and ``dimensions``.

    Raises:
        ApiError: a field is wrong, or says what the model has not.
        NimbedError: they could not be computed.
    """
    named, model = request.app.catalog.embedder(fields.name("model"))
    role, prompt = role_and_prompt(fields, named, model)
    asked = Asked(texts=texts, role=role, prompt=prompt, dim=fields.whole("dimensions"), normalize=normalize)
    truncate = may_cut(fields, model)
    await request.apart(note, request, named, texts)
    return named, await written(request, model.embed(asked), write, truncate=truncate)


async def score(
    request: Request, fields: Fields, texts: Sequence[str | Pair], query: str | None = None, *, raw: bool = False
) -> tuple[Named, Float32Array]:
    """Scores of pairs, or of texts with a query, float32 ``[n]``: from 0 to 1, or logits. Raises as :func:`embed`."""
    named, model = request.app.catalog.reranker(fields.name("model"))
    truncate = may_cut(fields, model)
    await request.apart(note, request, named, texts)
    request.work.characters += len(query or "") * len(texts)
    rows = await gathered(request, model.score(texts, query), truncate=truncate)
    return named, scaled(rows.reshape(-1), model, raw=raw)


async def gathered(request: Request, parts: AsyncGenerator[Computed, None], *, truncate: bool) -> Float32Array:
    """All rows of a request, whose record says then how many tokens they took and how many texts lost some.

    Raises:
        ApiError: one did and may not.
    """
    rows: list[Float32Array] = []
    first = 0
    async with aclosing(parts):
        async for part in parts:
            count(part, first, request.work, truncate=truncate)
            rows.append(part.rows)
            first += len(part.rows)
    return np.concatenate(rows)


def scaled(scores: Float32Array, model: Scorer, *, raw: bool) -> Float32Array:
    """A model's own scores as logits (``raw``) or as their sigmoid, whichever of the two it gives itself."""
    own = model.spec.activation
    if own == ("identity" if raw else "sigmoid"):
        return scores
    exact = scores.astype(np.float64)
    if own == "identity":
        return (1 / (1 + np.exp(-np.clip(exact, -700, 700)))).astype(np.float32)
    if own != "sigmoid":
        raise ApiError("invalid", f"this model scores by {own}, which is neither logit nor sigmoid", param="raw_scores")
    # A float32 next to 0 or 1 has lost its logit: what is left is the greatest that can be told.
    exact = np.clip(exact, np.finfo(np.float32).tiny, 1 - np.finfo(np.float32).epsneg)
    return np.log(exact / (1 - exact)).astype(np.float32)


def note(request: Request, named: Named, texts: Sequence[str | Pair]) -> None:
    """Say in the request's record what it asks for."""
    request.work.model, request.work.texts = named.id, len(texts)
    request.work.characters = sum(map(len, texts))


def may_cut(fields: Fields, model: Embedder | Scorer) -> bool:
    """Whether texts may lose tokens: unless ``truncate`` says no, or ``truncation_direction`` means the other end.

    ``truncate`` may also be a word, as Cohere's and NVIDIA's clients have it.
    """
    side = model.spec.truncation_side
    if isinstance(fields.any("truncate"), str):
        return _KEPT[fields.choice("truncate", tuple(_KEPT), "END")] == side
    asked = fields.choice("truncation_direction", ("left", "right", "Left", "Right"), side)
    return fields.flag("truncate", default=True) and asked.lower() == side


def role_and_prompt(fields: Fields, named: Named, model: Embedder) -> tuple[Role, str | None]:
    """The role, and the prompt that takes its prompt's place."""
    prompts, kind = model.spec.prompts, fields.name("input_type")
    if kind is None and fields.any("task") in _JINA_TASKS:
        kind = fields.name("task")
    if kind is not None and kind not in _INPUT_TYPES:
        raise ApiError("invalid", f"input_type must be one of {', '.join(_INPUT_TYPES)}", param="input_type")
    role = named.role if kind is None else _INPUT_TYPES[kind]
    name = fields.name("prompt_name")
    if name is None:
        return role, None
    if kind is not None:
        raise ApiError("invalid", "give one of input_type and prompt_name", param="prompt_name")
    if name in _INPUT_TYPES:
        return _INPUT_TYPES[name], prompts.get(name)
    if name not in prompts:
        raise ApiError(
            "invalid", f"the model has no such prompt; it has {', '.join(prompts) or 'none'}", param="prompt_name"
        )
    return role, prompts[name]


async def texts_or_ids(request: Request, fields: Fields, name: str) -> tuple[list[str], bool]:
    """The texts of a field, and whether it is one text alone; token ids stand for the text that they decode to.

    Raises:
        ApiError: it holds neither, or token ids that the server refuses.
    """
    value = fields.any(name)
    single = isinstance(value, str) or is_ids(value)
    items = [value] if single else value
    if isinstance(items, list) and not items:
        raise ApiError("empty", f"{name} cannot be empty", param=name)
    if isinstance(items, list) and is_ids(items[0]) and await request.apart(lambda: all(map(is_ids, items))):
        if request.settings.token_ids == "refuse":  # noqa: S105
            raise ApiError("invalid", _REFUSED_IDS.format(name=name), param=name)
        _, model = request.app.catalog.embedder(fields.name("model"))
        await request.apart(fields.check_length, items, name, "ids")
        some = request.in_turn(lambda lists: [text_of_ids(model, ids, name) for ids in lists], items)
        items = [text async for texts in some for text in texts]
    return await request.apart(_checked, fields, items, name), single


def _checked(fields: Fields, items: object, name: str) -> list[str]:
    if not is_texts(items):
        raise ApiError("invalid", f"{name} must be a string, or a list of strings", param=name)
    fields.check_length(items, name)
    return items
