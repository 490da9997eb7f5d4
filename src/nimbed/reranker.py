"""Reranker: a query and documents in, scores out."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from nimbed._files.json import reading_once
from nimbed._loading.candidate import find
from nimbed._loading.hub import Source
from nimbed._loading.settings import CacheConfig, EncoderInfo, EncoderStats, Settings
from nimbed._serving.call import Call
from nimbed._serving.open_model import OpenModel
from nimbed._text.checks import check_model, check_texts, excerpt, plain
from nimbed._types import INSTRUCTION, Pair
from nimbed._vectors import row_cosines
from nimbed.encoder import Encoder
from nimbed.errors import InputError, InputTypeError, SpecError
from nimbed.spec import SpecOverrides

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from os import PathLike

    from nimbed._cache.lru import Vectors
    from nimbed._loading.candidate import Candidate
    from nimbed._types import Float32Array, Precision, Truncate

__all__ = ["RankedDocument", "Reranker"]

Kind = Literal["bi-encoder", "cross-encoder"]


@dataclass(frozen=True)
class RankedDocument:
    """A document's index in the list that was given, and its score."""

    index: int
    score: float


class Reranker:
    """Scores documents against a query, on the CPU; a higher score is a better match.

    A cross-encoder (``*ForSequenceClassification`` with one label, such as BGE-reranker or MS MARCO MiniLM) reads query
    and document together; its score is that of sentence-transformers' ``CrossEncoder``. So does Qwen3-Reranker, which
    is a language model: its score is that of "yes" against "no" behind its template. A sentence-embedding model
    (bi-encoder) embeds both, with its prompts, and the score is the similarity that its authors name. The model's own
    files say which of the two it is: :attr:`kind`.

    It may be used from many threads and event loops at once, and it can be pickled. A copy, pickled or inherited by
    fork, opens the model when it is first used.

    Args:
        model: hub id, model folder or artefact folder.
        backend, precision, threads, source: as in :class:`nimbed.Encoder`.
        max_length: how many tokens of a pair (with a bi-encoder, of a text) are kept, special tokens included; None is
            the model's own limit.
        truncate: what is done to longer ones. "silent" cuts, "warn" cuts and warns, "error" raises; a bi-encoder also
            has "chunk". The longer text of a pair is cut, which is the document unless the query has more than half of
            the tokens (transformers' "longest_first").
        spec: pooling, prompts, normalize and task in place of what a bi-encoder's folder says; of Qwen3-Reranker the
            prompt "instruction".

    Raises:
        ModelNotFoundError: there is no such folder or hub model.
        SpecError: the model is neither of the two, or its folder says something that cannot be honoured.
        InputError: a setting cannot be used.
        ArtefactError: the artefact is damaged or cannot be stored.
        MissingExtraError: building needs a package that is not installed.
        BuildError: the build failed; as QualityError, int8 is too far from fp32.

    Example:
        >>> reranker = Reranker("any-name", backend="fake")
        >>> reranker.kind
        'bi-encoder'
        >>> documents = ["Prices rose in May.", "The cat sat on the mat."]
        >>> [ranked.index for ranked in reranker.rank("Where is the cat?", documents)]
        [1, 0]
        >>> reranker.scores("Where is the cat?", documents).shape
        (2,)
    """

    def __init__(
        self,
        model: str | PathLike[str],
        *,
        backend: str = "auto",
        precision: Precision | Literal["auto"] = "auto",
        max_length: int | None = None,
        truncate: Truncate = "silent",
        threads: int | None = None,
        spec: SpecOverrides | None = None,
        source: Source | None = None,
    ) -> None:
        settings = Settings(
            model=check_model(model),
            backend=backend,
            precision=precision,
            max_length=max_length,
            truncate=truncate,
            threads=threads,
            cache=None,
            spec=spec or SpecOverrides(),
            source=source or Source(),
        )
        self._model: _CrossEncoder | _BiEncoder
        with reading_once():
            found = find(settings)
            if found.spec.task == "scoring":
                self._model = _CrossEncoder(replace(settings, task="scoring"), found)
            else:
                _refuse_instruction(settings)
                self._model = _BiEncoder(replace(settings, cache=CacheConfig()), found)

    def scores(self, query: str, documents: Sequence[str]) -> Float32Array:
        """Score documents against a query.

        Returns:
            float32 ``[len(documents)]``, in the documents' order.

        Raises:
            InputTypeError: the query is not a string, or documents are not a list of strings; says which.
            InputError: a text is not valid Unicode.
            TruncationError: a pair is too long and ``truncate="error"``.
        """
        return self._model.score(_pairs_with(query, documents))

    async def ascores(self, query: str, documents: Sequence[str]) -> Float32Array:
        """As :meth:`scores`, without blocking the event loop. Cancelling removes the pairs that have not started."""
        return await self._model.ascore(_pairs_with(query, documents))

    def rank(self, query: str, documents: Sequence[str], *, top_k: int | None = None) -> list[RankedDocument]:
        """Indexes and scores of the documents, best first; equal scores keep their order. Raises as :meth:`scores`.

        Args:
            query: the question.
            documents: any number.
            top_k: how many are returned; None returns all.
        """
        _check_top_k(top_k)
        return _ranked(self.scores(query, documents), top_k)

    async def arank(self, query: str, documents: Sequence[str], *, top_k: int | None = None) -> list[RankedDocument]:
        """As :meth:`rank`, without blocking the event loop."""
        _check_top_k(top_k)
        return _ranked(await self.ascores(query, documents), top_k)

    def score_pairs(self, pairs: Sequence[tuple[str, str]]) -> Float32Array:
        """Scores of pairs of query and document, float32 ``[len(pairs)]``. Raises as :meth:`scores`."""
        return self._model.score(_checked_pairs(pairs))

    def stats(self) -> EncoderStats:
        """Counts since the reranker was made in this process; each pair counts as a text."""
        return self._model.stats()

    @property
    def kind(self) -> Kind:
        """Whether query and document are read together ("cross-encoder") or separately ("bi-encoder")."""
        return self._model.kind

    @property
    def info(self) -> EncoderInfo:
        """What was chosen (engine, precision, threads, artefact, ...) and why."""
        return self._model.info

    @property
    def fingerprint(self) -> str:
        """Hash over everything that can change a score."""
        return self.info.fingerprint

    def close(self) -> None:
        """Stop the workers and free the model's memory; later calls raise ClosedError."""
        self._model.close()

    def __enter__(self) -> Reranker:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return repr(self._model).replace(type(self._model).__name__, "Reranker", 1)


class _CrossEncoder(OpenModel):
    """Pairs, through the same pipeline as texts."""

    kind: Kind = "cross-encoder"

    def score(self, pairs: Sequence[Pair]) -> Float32Array:
        started, runtime = time.perf_counter(), self._opened()
        # The queue that plans ahead: all pairs of a call are wanted, and like lengths meet.
        return self._answer(Call(runtime, pairs, "document").result(), started)

    async def ascore(self, pairs: Sequence[Pair]) -> Float32Array:
        started = time.perf_counter()
        if self._current() is None:  # a copy that has not opened the model
            import asyncio

            await asyncio.to_thread(self._opened)
        return self._answer(await Call(self._opened(), pairs, "document").aresult(), started)

    def _answer(self, vectors: Vectors, started: float) -> Float32Array:
        rows, cut = vectors
        lost = int(np.count_nonzero(cut))
        self._meter.call("document", texts=len(rows), truncated=lost, seconds=time.perf_counter() - started)
        if lost:
            self._opened().engine.tokenizer.warn_cut(cut, range(len(cut)), stacklevel=5)
        return rows.reshape(-1)


class _BiEncoder(Encoder):
    """Texts one by one, each distinct text once, and the similarity of their vectors."""

    kind: Kind = "bi-encoder"

    def __init__(self, settings: Settings, found: Candidate) -> None:
        OpenModel.__init__(self, settings, found)

    def score(self, pairs: Sequence[Pair]) -> Float32Array:
        queries, documents = _distinct(pairs)
        return self._compared(pairs, self.encode(queries, role="query"), self.encode(documents))

    async def ascore(self, pairs: Sequence[Pair]) -> Float32Array:
        queries, documents = _distinct(pairs)
        vectors = await self.aencode(queries, role="query"), await self.aencode(documents)
        return self._compared(pairs, *vectors)

    def _compared(self, pairs: Sequence[Pair], queries: Float32Array, documents: Float32Array) -> Float32Array:
        compare = _SIMILARITIES.get(self.info.similarity)
        if compare is None:
            raise SpecError(
                f"{self.info.model}: config_sentence_transformers.json: similarity_fn_name: "
                f"{self.info.similarity!r} is not one of {', '.join(_SIMILARITIES)}"
            )
        places = [{text: at for at, text in enumerate(texts)} for texts in _distinct(pairs)]
        asked = [places[0][pair.query] for pair in pairs]
        found = [places[1][pair.document] for pair in pairs]
        return compare(queries[asked], documents[found])


# As sentence-transformers has them: a distance counts negative, so that higher is nearer.
_SIMILARITIES: dict[str, Callable[[Float32Array, Float32Array], Float32Array]] = {
    "cosine": row_cosines,
    "dot": lambda a, b: (a * b).sum(axis=1),
    "euclidean": lambda a, b: -np.linalg.norm(a - b, axis=1),
    "manhattan": lambda a, b: -np.abs(a - b).sum(axis=1),
}


def _refuse_instruction(settings: Settings) -> None:
    if INSTRUCTION in settings.spec.prompts:
        raise InputError(
            f'SpecOverrides(prompts={{"{INSTRUCTION}": ...}}): {settings.model} is a sentence-embedding model, which '
            "reads query and document apart and has no instruction for both; it may have a prompt for each"
        )


def _distinct(pairs: Sequence[Pair]) -> tuple[list[str], list[str]]:
    """The queries and the documents, each once, in the order in which they come."""
    return list(dict.fromkeys(p.query for p in pairs)), list(dict.fromkeys(p.document for p in pairs))


def _pairs_with(query: object, documents: object) -> list[Pair]:
    if not issubclass(type(query), str):
        raise InputTypeError(f"the query must be one string, not {type(query).__name__}: {excerpt(query)}")
    asked = plain(query, "the query")
    return [Pair(asked, text) for text in check_texts(documents, remedy="make a list of it")]


def _checked_pairs(pairs: Sequence[tuple[str, str]]) -> list[Pair]:
    if isinstance(pairs, (Mapping, set, frozenset)) or hasattr(pairs, "columns") or not hasattr(pairs, "__iter__"):
        raise InputTypeError(f"a list of pairs of query and document is wanted, not one {type(pairs).__name__}")
    checked = []
    for index, pair in enumerate(pairs):
        if isinstance(pair, (str, Mapping, set, frozenset)) or not hasattr(pair, "__len__") or len(pair) != 2:
            raise InputTypeError(f"item {index} is no pair of query and document: {excerpt(pair)}")
        if not all(issubclass(type(text), str) for text in pair):
            raise InputTypeError(f"item {index}: both of a pair must be strings: {excerpt(pair)}")
        checked.append(Pair(*(plain(text, f"item {index}") for text in pair)))
    return checked


def _check_top_k(top_k: object) -> None:
    if top_k is not None and (not isinstance(top_k, int) or isinstance(top_k, bool) or top_k < 1):
        raise InputError(f"top_k={top_k!r} must be a whole number from 1 on, or None for all")


def _ranked(scores: Float32Array, top_k: int | None) -> list[RankedDocument]:
    order = np.argsort(-scores, kind="stable")[:top_k]
    return [RankedDocument(int(index), float(scores[index])) for index in order]
