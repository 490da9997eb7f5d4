"""Evaluation sets from files, checked: a set that would give a wrong figure in silence is refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nimbed._files.user_paths import expanded
from nimbed._text.checks import excerpt
from nimbed.errors import InputError
from nimbed.evaluate import lines

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from os import PathLike
    from pathlib import Path

__all__ = ["RerankItem", "RerankSet", "RetrievalSet", "StsSet", "load_rerank", "load_retrieval", "load_sts"]

_QUERY_COLUMN = {"qrels.tsv": ("query_id", "corpus_id", "score"), "test.tsv": ("query-id", "corpus-id", "score")}


@dataclass(frozen=True, kw_only=True)
class RetrievalSet:
    """Documents and queries by id, and judgements ``{query: {document: relevance}}``; above 0 is relevant."""

    name: str = ""
    docs: Mapping[str, str]
    queries: Mapping[str, str]
    qrels: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, kw_only=True)
class StsSet:
    """Pairs of sentences, and how alike people found them."""

    name: str = ""
    first: Sequence[str]
    second: Sequence[str]
    gold: Sequence[float]


@dataclass(frozen=True, kw_only=True)
class RerankItem:
    """A query with documents that answer it and documents that do not."""

    query: str
    positive: Sequence[str]
    negative: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class RerankSet:
    """Queries, each with its own few documents to put in order."""

    name: str = ""
    items: Sequence[RerankItem]


def load_retrieval(folder: str | PathLike[str]) -> RetrievalSet:
    """A retrieval folder: documents, queries and judgements.

    This project's format (``qrels.tsv`` with ``query_id``, ``corpus_id``, ``score``) or BEIR's (``qrels/test.tsv`` with
    ``query-id``, ``corpus-id``, ``score``); ``corpus.jsonl`` and ``queries.jsonl`` have ``id`` or ``_id``, ``text`` and
    for documents maybe ``title``. Each file may have ``.gz`` behind its name. A document is its title, a space and
    its text. Queries without a relevant document are left out.

    Raises:
        InputError: names file and line: a file is missing, a line is not JSON, an id comes twice, judgements name an
            unknown query or document, a score is not a number, nothing is judged relevant.
    """
    place = expanded(folder)
    if not place.is_dir():
        raise InputError(f"{place} is not a folder; --retrieval takes a folder with corpus.jsonl and queries.jsonl")
    corpus, asked = _wanted(place, "corpus.jsonl"), _wanted(place, "queries.jsonl")
    judged = _wanted(place, "qrels.tsv", "qrels/test.tsv")
    docs = _by_id(corpus, _document, "documents")
    queries = _by_id(asked, lambda record, where: lines.text(record, "text", where), "queries")
    qrels = _qrels(judged, queries, docs, (asked, corpus))
    kept = {query: queries[query] for query in queries if any(s > 0 for s in qrels.get(query, {}).values())}
    if not kept:
        raise InputError(
            f"{judged} judges no document relevant (score above 0) to any query; there is nothing to measure"
        )
    return RetrievalSet(name=place.resolve().name, docs=docs, queries=kept, qrels=qrels)


def load_sts(path: str | PathLike[str]) -> StsSet:
    """Tab-separated pairs with the header ``score``, ``sentence1``, ``sentence2``, ``.gz`` too; nothing is unquoted.

    Raises:
        InputError: names file and line: a column is missing, a score is not a number, a sentence is empty, all
            scores are equal.
    """
    source = expanded(path)
    first, second, gold = [], [], []
    for place, (score, left, right) in lines.rows(source, ("score", "sentence1", "sentence2")):
        pair = {"sentence1": left, "sentence2": right}
        gold.append(lines.number(score, "score", place))
        first.append(lines.text(pair, "sentence1", place))
        second.append(lines.text(pair, "sentence2", place))
    if len(set(gold)) < 2:
        raise InputError(f"{source}: {len(gold)} pairs with {len(set(gold))} different scores; a correlation needs two")
    return StsSet(name=_name(source), first=first, second=second, gold=gold)


def load_rerank(path: str | PathLike[str]) -> RerankSet:
    """JSON lines with ``query``, ``positive`` (texts) and ``negative`` (texts), ``.gz`` too.

    Raises:
        InputError: names file and line: not JSON, a field is missing or empty, a text comes twice or is both positive
            and negative, there are no lines.
    """
    source = expanded(path)
    items = [_rerank_item(record, place) for place, record in lines.objects(source)]
    if not items:
        raise InputError(f"{source} holds no queries; write one JSON object a line: query, positive, negative")
    return RerankSet(name=_name(source), items=items)


def _name(path: Path) -> str:
    """Folder and file: the file alone is often called the same in every set."""
    return f"{path.resolve().parent.name}/{path.name.partition('.')[0]}"


def _wanted(folder: Path, *names: str) -> Path:
    path = lines.find(folder, *names)
    if path is None:
        raise InputError(
            f"{folder} has no {' and no '.join(names)} (nor with .gz); see docs/evaluation.md for the formats"
        )
    return path


def _by_id(path: Path, content: Any, what: str) -> dict[str, str]:  # noqa: ANN401 (a reader of one record)
    """Texts by id, in the order of the file."""
    texts: dict[str, str] = {}
    for place, record in lines.objects(path):
        name = _id(record, place)
        if name in texts:
            raise InputError(f"{place}: id {excerpt(name)} has come before; ids must differ")
        texts[name] = content(record, place)
    if not texts:
        raise InputError(f"{path} holds no {what}; write one JSON object a line: id, text")
    return texts


def _id(record: Mapping[str, Any], place: str) -> str:
    value = record.get("_id", record.get("id"))
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value:
        found = "no id" if value is None else f"id {excerpt(value)}"
        raise InputError(f'{place}: {found}; "id" or "_id" must be a string')
    return value


def _document(record: Mapping[str, Any], place: str) -> str:
    """Title and text. An empty text is allowed, as published sets have such; a missing one is not."""
    title, body = record.get("title") or "", record.get("text")
    for name, value in (("title", title), ("text", body)):
        if not isinstance(value, str):
            raise InputError(f'{place}: "{name}" is {excerpt(value)}, not a text')
    return f"{title} {body}".strip()


def _qrels(
    path: Path, queries: Mapping[str, str], docs: Mapping[str, str], files: tuple[Path, Path]
) -> dict[str, dict[str, float]]:
    judged: dict[str, dict[str, float]] = {}
    for place, (query, document, score) in lines.rows(path, _QUERY_COLUMN[path.name.removesuffix(".gz")]):
        for name, known, kind, file in ((query, queries, "query", files[0]), (document, docs, "document", files[1])):
            if name not in known:
                raise InputError(f"{place}: {kind} {excerpt(name)} is not in {file}; add it there or take the line out")
        scores = judged.setdefault(query, {})
        if document in scores:
            raise InputError(f"{place}: query {excerpt(query)} and document {excerpt(document)} were judged before")
        scores[document] = lines.number(score, "score", place)
    return judged


def _rerank_item(record: dict[str, Any], place: str) -> RerankItem:
    query = lines.text(record, "query", place)
    positive, negative = (_texts(record, field, place) for field in ("positive", "negative"))
    if both := set(positive) & set(negative):
        raise InputError(f"{place}: positive and negative at once: {excerpt(min(both))}; take one out")
    return RerankItem(query=query, positive=positive, negative=negative)


def _texts(record: Mapping[str, Any], field: str, place: str) -> list[str]:
    value = record.get(field)
    if not isinstance(value, list) or not value:
        raise InputError(f'{place}: "{field}" must be a list with at least one text')
    for number, item in enumerate(value, 1):
        if not isinstance(item, str) or not item.strip():
            raise InputError(f'{place}: item {number} of "{field}" is {excerpt(item)}, not a text')
    if repeated := _repeated(value):
        raise InputError(f'{place}: twice in "{field}": {excerpt(repeated)}; take one out')
    return value


def _repeated(texts: Iterable[str]) -> str | None:
    seen: set[str] = set()
    for item in texts:
        if item in seen:
            return item
        seen.add(item)
    return None
