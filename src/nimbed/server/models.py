"""The models of a server: opened once, each with a lane for what is short and one for what is long."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from nimbed._files.json import reading_once
from nimbed._loading.candidate import find
from nimbed._loading.hub import Source
from nimbed._loading.settings import CacheConfig, Settings
from nimbed._serving.call import Call
from nimbed._serving.open_model import OpenModel
from nimbed._serving.postprocess import cut_to
from nimbed._types import Pair, PromptedText
from nimbed._vectors import l2_normalized
from nimbed.encoder import Encoder
from nimbed.server.errors import ApiError
from nimbed.server.gathering import Computed, Gathering
from nimbed.server.lone import Lone
from nimbed.spec import SpecOverrides

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator, Sequence

    from nimbed._loading.candidate import Candidate
    from nimbed._text.tokenizer import Tokenizer
    from nimbed._types import Float32Array, ModelSpec, Role
    from nimbed.server.load import Load
    from nimbed.server.settings import ModelSettings

    Item: TypeAlias = str | PromptedText | Pair
    Slices: TypeAlias = Iterator[Sequence[Item]]

# What is this short goes the queries' way, whatever prompt it has: it does not wait behind what others sent in bulk.
_FEW_TEXTS, _FEW_CHARACTERS = 16, 8_000
# Longer lists go in slices of these, two at a time: the others get their turn, and vectors are written as they come.
# A slice takes a few seconds, also where the model is slow: so it shows that the request goes on.
_SLICE_TEXTS, _SLICE_CHARACTERS, _SLICE_S = 256, 250_000, 5.0
# Up to this many characters are tokenized, or looked up in the cache, on the event loop itself.
_INLINE_CHARACTERS = 2_000


class Counts(NamedTuple):
    """What a model has done since it was opened, and what waits for it.

    Attributes:
        texts: that calls were answered with, or pairs; also those that the cache had.
        tokens: computed.
        waiting: sequences, now.
        hits, lookups: of the cache.
    """

    texts: int
    tokens: int
    waiting: int
    hits: int
    lookups: int


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Texts, and what their vectors shall be.

    Attributes:
        texts: of one request.
        role: whose prompt they get.
        prompt: in its place, where it is not None.
        dim: components that are kept; None keeps all.
        normalize: whether vectors have norm 1 where the model leaves that open; None takes the model's own.
    """

    texts: Sequence[str]
    role: Role
    prompt: str | None = None
    dim: int | None = None
    normalize: bool | None = None


class Served(OpenModel):
    """What both kinds have in common."""

    _load: Load | None = None  # a copy by pickle has none

    def __init__(self, settings: Settings, found: Candidate, load: Load | None = None) -> None:
        self._load = load
        OpenModel.__init__(self, settings, found)

    def _reset(self) -> None:
        super()._reset()
        self._lone = Lone(self._load)
        self._slice_characters = _FEW_CHARACTERS
        self._gathering: dict[Role, Gathering] = {
            lane: Gathering(partial(self._computed, lane=lane), characters=_INLINE_CHARACTERS)
            for lane in ("query", "document")
        }

    @property
    def spec(self) -> ModelSpec:
        """What the model's folder says, with the user's words laid over it."""
        return self._opened().engine.spec

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's."""
        return self._opened().engine.tokenizer

    def counts(self) -> Counts:
        """At a smaller cost than :meth:`stats`, which sorts latencies."""
        counted, runtime = self._meter.counts, self._current()
        waiting = 0 if runtime is None else runtime.scheduler.depth()
        cache = None if runtime is None or runtime.cache is None else runtime.cache.stats()
        hits = 0 if cache is None else cache.hits
        lookups = 0 if cache is None else hits + cache.joined + cache.misses
        return Counts(counted["texts"], counted["tokens"], waiting, hits, lookups)

    async def _run(self, items: Sequence[str | PromptedText | Pair], lane: Role, role: Role) -> Computed:
        """One slice, or all of what is short."""
        started = time.perf_counter()
        if sum(map(len, items)) <= _INLINE_CHARACTERS:
            found = self._cached(items, lane) or await self._short(items, lane)
        else:
            found = await self._computed(items, lane)
        seconds = time.perf_counter() - started
        self._meter.call(role, texts=len(found.rows), truncated=found.truncated, seconds=seconds)
        return found

    def _cached(self, items: Sequence[str | PromptedText | Pair], lane: Role) -> Computed | None:
        """From the process's cache, where it has all of them."""
        runtime = self._opened()
        vectors = None if isinstance(items[0], Pair) else runtime.cached(items, lane)  # type: ignore[arg-type]
        if vectors is None:
            return None
        return Computed(*vectors, runtime.tokenize(items, lane, range(len(items))).lengths)

    async def _short(self, items: Sequence[str | PromptedText | Pair], lane: Role) -> Computed:
        """With those that come in the same turn of the event loop; on the loop itself where there are no others."""
        if await self._lone.may_hold_the_loop(sum(map(len, items))):
            return await self._computed(items, lane, inline=True)
        return await self._gathering[lane].compute(items)

    async def _computed(
        self, items: Sequence[str | PromptedText | Pair], lane: Role, *, inline: bool = False
    ) -> Computed:
        call, characters, started = Call(self._opened(), items, lane), sum(map(len, items)), time.perf_counter()
        rows, cut = await call.aresult(inline=inline)
        self._lone.took(time.perf_counter() - started, characters)
        short, computed = characters <= _INLINE_CHARACTERS, call.all_tokenized
        if computed and not short:
            self._pace(characters / (time.perf_counter() - started))
        return Computed(rows, cut, call.tokens() if short or computed else await asyncio.to_thread(call.tokens))

    def _pace(self, characters: float) -> None:
        """So many were computed in a second: slices of like duration from now on, each at most twice the last."""
        most = min(_SLICE_CHARACTERS, 2 * self._slice_characters)
        self._slice_characters = int(min(most, max(_FEW_CHARACTERS, _SLICE_S * characters)))

    def _slices(self, texts: Sequence[Any], make: Callable[[Any], Item] | None = None, added: int = 0) -> Slices:
        return slices(texts, make, added=added, most=lambda: self._slice_characters)

    async def _in_turn(self, parts: Slices, lane: Role, role: Role) -> AsyncGenerator[Computed, None]:
        """The slices' outcomes in order; whatever ends the caller early takes out what has not started."""
        first, second = next(parts), next(parts, None)
        if second is None:
            yield await self._run(first, lane, role)
            return
        running: deque[asyncio.Task[Computed]] = deque()
        try:
            for part in chain((first, second), parts):
                running.append(asyncio.create_task(self._run(part, lane, role)))
                if len(running) == 2:
                    yield await running.popleft()
            while running:
                yield await running.popleft()
        finally:
            for task in running:
                task.cancel()
                # One that failed too is not reported by asyncio, whose log would have the error's words.
                task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())


class Embedder(Served, Encoder):
    """A sentence-embedding model."""

    kind = "embedder"

    async def embed(self, asked: Asked) -> AsyncGenerator[Computed, None]:
        """Vectors in the order of the texts, slice after slice.

        Raises:
            ApiError: the model cannot give vectors of that width.
            NimbedError: they could not be computed.
        """
        self._check(asked)
        lane, prompt = self._lane(asked)
        if prompt is None:
            parts = self._slices(asked.texts)
        else:
            parts = self._slices(asked.texts, lambda text: PromptedText(prompt=prompt, text=text), len(prompt))
        async for part in self._in_turn(parts, lane, asked.role):
            yield part._replace(rows=self._finished(part.rows, asked))

    def _check(self, asked: Asked) -> None:
        if asked.dim is not None and not 1 <= asked.dim <= self.dim:
            raise ApiError("invalid", f"dimensions must be from 1 to {self.dim}", param="dimensions")

    def _lane(self, asked: Asked) -> tuple[Role, str | None]:
        """The queue that the texts go to, and the prompt that they get in its prompt's place."""
        spec, texts = self.spec, asked.texts
        few = len(texts) <= _FEW_TEXTS and sum(map(len, texts)) <= _FEW_CHARACTERS
        lane: Role = "query" if few else "document"
        if spec.adapter("query") != spec.adapter("document"):
            lane = asked.role
        prompt = spec.prompt(asked.role) if asked.prompt is None else asked.prompt
        return lane, None if prompt == spec.prompt(lane) else prompt

    def _finished(self, rows: Float32Array, asked: Asked) -> Float32Array:
        if asked.dim is not None and asked.dim != rows.shape[1]:
            normalize = self.info.normalize or bool(asked.normalize)
            rows = cut_to(asked.dim, rows, normalize=normalize, center=self.spec.center_before_cut)
        elif asked.normalize and not self.info.normalize:
            rows = l2_normalized(rows)
        return np.ascontiguousarray(rows)


class Scorer(Served):
    """A cross-encoder."""

    kind = "reranker"

    async def score(self, texts: Sequence[str | Pair], query: str | None = None) -> AsyncGenerator[Computed, None]:
        """Scores ``[n, 1]`` of pairs, or of texts with a query, in order and slice after slice.

        Raises:
            NimbedError: they could not be computed.
        """
        added = len(query or "")
        few = len(texts) <= _FEW_TEXTS and sum(len(text) + added for text in texts) <= _FEW_CHARACTERS
        make = None if query is None else lambda text: Pair(query, str(text))
        parts = self._slices(texts, make, added)
        async for part in self._in_turn(parts, "query" if few else "document", "document"):
            yield part


def slices(
    texts: Sequence[Any], make: Callable[[Any], Item] | None = None, *, added: int = 0, most: Callable[[], int]
) -> Slices:
    """Texts in pieces of bounded size, in their order; each becomes what is computed when its turn has come.

    Args:
        texts: of one request.
        make: of a text what is computed; None leaves it as it is.
        added: characters that this adds to each.
        most: characters from which on a piece is long enough, asked for each.
    """
    start, characters = 0, 0
    limit = most()
    for end, text in enumerate(texts, 1):
        characters += len(text) + added
        if end - start == _SLICE_TEXTS or characters >= limit or end == len(texts):
            part = texts[start:end]
            yield part if make is None else [make(one) for one in part]
            start, characters, limit = end, 0, most()


def open_model(chosen: ModelSettings, load: Load | None = None) -> Embedder | Scorer:
    """Open a model; its own files say which of the two it is.

    Args:
        chosen: which, and how.
        load: of the server's requests; without it the engine never runs on the event loop.

    Raises:
        NimbedError: as :class:`nimbed.Encoder` does.
    """
    settings = Settings(
        model=chosen.model,
        backend=chosen.backend,
        precision=chosen.precision,
        max_length=chosen.max_length,
        truncate="silent",
        dim=chosen.dim,
        threads=chosen.threads,
        cache=CacheConfig.of(chosen.cache or None),
        spec=SpecOverrides(task=chosen.task, pooling=chosen.pooling),  # type: ignore[arg-type]
        source=Source(revision=chosen.revision, local_files_only=chosen.offline),
    )
    with reading_once():
        found = find(settings)
        if found.spec.task == "embedding":
            return Embedder(settings, found, load)
        return Scorer(replace(settings, task="scoring", cache=None), found, load)
