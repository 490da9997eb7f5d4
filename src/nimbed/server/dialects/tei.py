"""Text Embeddings Inference: the routes that a model of each kind has there."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import numpy as np

from nimbed import __version__
from nimbed._types import Pair
from nimbed._vectors import row_cosines
from nimbed.server.bodies import JsonList, items_of, plain
from nimbed.server.dialects.rerank import cohere_results, tei_ranks
from nimbed.server.embedding import embed, gathered, may_cut, note, role_and_prompt, score, texts_or_ids
from nimbed.server.errors import STATUS, ApiError
from nimbed.server.fields import is_ids
from nimbed.server.models import Asked, Embedder, Scorer
from nimbed.server.request import Answer, Route
from nimbed.server.tokens import text_of_ids, tokens_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nimbed.server.errors import Kind
    from nimbed.server.fields import Fields
    from nimbed.server.request import Request

_STATUS: dict[Kind, int] = {"invalid": 422, "wrong_kind_of_model": 424}
_TYPES: dict[Kind, str] = {
    "empty": "Empty",
    "wrong_kind_of_model": "Backend",
    "overloaded": "Overloaded",
    "unavailable": "Unhealthy",
    "internal": "Backend",
}


def error(found: ApiError) -> Answer:
    """``{error, error_type}``."""
    said = {"error": found.message, "error_type": _TYPES.get(found.kind, "Validation")}
    return Answer.json(said, status=_STATUS.get(found.kind, STATUS[found.kind]))


async def embeds(request: Request) -> Answer:
    """A list of vectors, also for one text; a header says where ones of norm 1 are all that the model has."""
    return await _embeds(request, await request.fields())


async def _embeds(request: Request, fields: Fields) -> Answer:
    texts, single = await texts_or_ids(request, fields, "inputs")
    request.work.batch = not single
    normalize = fields.flag("normalize", default=True)
    named, vectors = await embed(request, fields, texts, plain, normalize=normalize)
    answer = _with_times(request, Answer(vectors))
    if not normalize and named.model.info.normalize:
        answer.headers.append((b"x-normalized", b"true"))
    return answer


async def unsupported(request: Request) -> Answer:
    """Outputs that no model has yet."""
    await request.fields()
    raise ApiError("wrong_kind_of_model", "not supported by this model")


async def predict(request: Request) -> Answer:
    """Scores of texts in pairs, each under the model's one label."""
    fields = await request.fields()
    pairs, single = await request.apart(_pairs, fields)
    request.work.batch = not single
    raw = fields.flag("raw_scores", default=False)
    _, scores = await score(request, fields, pairs, raw=raw)
    if single:
        return _with_times(request, Answer.json([_labelled(scores[0])]))
    return _with_times(request, await request.apart(lambda: Answer.json([[_labelled(one)] for one in scores])))


def _labelled(score: float) -> dict[str, float | str]:
    return {"score": float(score), "label": "LABEL_0"}


async def similarity(request: Request) -> Answer:
    """Cosines of a sentence with others."""
    return await _similarity(request, await request.fields())


async def _similarity(request: Request, fields: Fields) -> Answer:
    inputs, parameters = fields.inner("inputs", required=True), fields.inner("parameters")
    source, texts = inputs.text("source_sentence"), await request.apart(inputs.texts, "sentences")
    named, model = request.app.catalog.embedder(fields.name("model"))
    role, prompt = role_and_prompt(parameters, named, model)
    truncate = may_cut(parameters, model)
    request.work.batch = True
    await request.apart(note, request, named, asked := [source, *texts])
    parts = model.embed(Asked(texts=asked, role=role, prompt=prompt))
    vectors = await gathered(request, parts, truncate=truncate)

    def answer() -> Answer:
        cosines = row_cosines(np.broadcast_to(vectors[:1], vectors[1:].shape), vectors[1:])
        return Answer.json([float(one) for one in cosines])

    return _with_times(request, await request.apart(answer))


async def tokenize(request: Request) -> Answer:
    """Each text's tokens."""
    fields = await request.fields()
    value = fields.any("inputs")
    texts = [fields.text("inputs")] if isinstance(value, str) else await request.apart(fields.texts, "inputs")
    special, named = fields.flag("add_special_tokens", default=True), request.app.catalog.first()
    prompt, model = "", named.model
    if "prompt_name" in fields:
        named, model = request.app.catalog.embedder(named.name)
        role, said = role_and_prompt(fields, named, model)
        prompt = model.spec.prompt(role) if said is None else said

    def tokens(some: Sequence[str]) -> bytes:
        return items_of(tokens_of(model, [prompt + text for text in some], special=special))

    return await _in_turn(request, tokens, texts)


async def _in_turn(request: Request, function: Callable[[Sequence[Any]], bytes], items: Sequence[Any]) -> Answer:
    found = JsonList(request)
    async with aclosing(request.in_turn(function, items)) as parts:
        async for part in parts:
            found.add(part)
    return Answer(found.whole())


async def decode(request: Request) -> Answer:
    """The texts that ids stand for."""
    fields = await request.fields()
    ids, skip = fields.any("ids"), fields.flag("skip_special_tokens", default=True)
    lists = [ids] if is_ids(ids) else ids
    if not isinstance(lists, list) or not lists or not await request.apart(lambda: all(map(is_ids, lists))):
        raise ApiError("invalid", "ids must be token ids, or a list of lists of them", param="ids")
    await request.apart(fields.check_length, lists, "ids", "ids")
    model = request.app.catalog.first().model

    def texts(some: Sequence[list[int]]) -> bytes:
        return items_of([text_of_ids(model, one, "ids", skip_special=skip) for one in some])

    return await _in_turn(request, texts, lists)


async def info(request: Request) -> Answer:
    """What is served, in TEI's words, and nimbed's own names beside them."""
    named, limits = request.app.catalog.first(), request.settings.limits
    found = named.model.info
    labels = {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}
    is_embedder = isinstance(named.model, Embedder)
    said = {
        "model_id": named.name,
        "model_sha": found.revision,
        "model_dtype": found.precision,
        "model_type": {"embedding": {"pooling": found.pooling}} if is_embedder else {"reranker": labels},
        "max_concurrent_requests": limits.queue,
        "max_input_length": found.max_length,
        "max_batch_tokens": 16384,
        "max_batch_requests": None,
        "max_client_batch_size": limits.body_bytes // 256,
        "auto_truncate": True,
        "tokenization_workers": 2,
        "version": __version__,
        "sha": None,
        "docker_label": None,
    }
    return Answer.json(said)


async def by_model(request: Request) -> Answer:
    """What ``/`` and ``/invocations`` are: by the model that was named first, and by what an embedder is asked."""
    if isinstance(request.app.catalog.first().model, Scorer):
        return await rerank(request)
    fields = await request.fields()
    return await (_similarity if isinstance(fields.any("inputs"), dict) else _embeds)(request, fields)


async def rerank(request: Request) -> Answer:
    """TEI's ``{query, texts}``, or the ``{query, documents}`` of Cohere and Jina, whose clients post to it as well."""
    fields = await request.fields()
    if "documents" in fields and "texts" not in fields:
        return await cohere_results(request, fields)
    return _with_times(request, await tei_ranks(request, fields))


def _pairs(fields: Fields) -> tuple[list[Pair], bool]:
    """``[query, text]``, or a list of such."""
    value = fields.any("inputs")
    single = isinstance(value, list) and len(value) == 2 and all(isinstance(one, str) for one in value)
    items = [value] if single else value
    pairs = []
    for item in items if isinstance(items, list) else [None]:
        if not isinstance(item, list) or len(item) != 2 or not all(isinstance(one, str) for one in item):
            raise ApiError("invalid", "inputs must be pairs of texts: [query, text], or a list of such", param="inputs")
        fields.check_length(item, "inputs")
        pairs.append(Pair(*item))
    if not pairs:
        raise ApiError("empty", "inputs cannot be empty", param="inputs")
    return pairs, single


def _with_times(request: Request, answer: Answer) -> Answer:
    work = request.work
    answer.headers += [
        (b"x-compute-type", b"cpu"),
        (b"x-compute-characters", str(work.characters).encode()),
        (b"x-compute-tokens", str(work.tokens).encode()),
    ]
    return answer


ROUTES = {
    "/embed": Route({"POST": embeds}, error),
    "/embed_all": Route({"POST": unsupported}, error),
    "/embed_sparse": Route({"POST": unsupported}, error),
    "/rerank": Route({"POST": rerank}, error),
    "/predict": Route({"POST": predict}, error),
    "/similarity": Route({"POST": similarity}, error),
    "/tokenize": Route({"POST": tokenize}, error),
    "/decode": Route({"POST": decode}, error),
    "/info": Route({"GET": info}, error),
    "/invocations": Route({"POST": by_model}, error),
}
