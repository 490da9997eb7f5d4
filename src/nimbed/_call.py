"""One call on its way: its texts in blocks, what the cache has of each, and its vectors in order at the end."""

from __future__ import annotations

import time
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from nimbed._cache import Claim, Entry, Vectors, rows_of
from nimbed._finish import cut_to
from nimbed._waiting import await_in_turn, wait_in_turn

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from nimbed._cache import Flight
    from nimbed._core import Core
    from nimbed._types import Float32Array, Int32Array, Role

# Texts that are tokenized and queued at a stretch: the engine begins with the first while the next are prepared.
BLOCK_TEXTS = 512
# What is tokenized in about the time in which a thread wakes.
_FEW_CHARACTERS = 2000
# So many are tokenized in some milliseconds.
_CHARACTERS_HERE = 20_000
# What a text weighs at the gate beside its characters.
_TEXT_WEIGHT = 64


class Call:
    """Texts of one caller, from the gate to their vectors.

    What there is to wait for is one sequence of futures; a thread and an event loop differ in how they wait alone.

    Args:
        core: that embeds them.
        texts: any number; pairs where the model scores.
        role: whose prompt they get.
        first: number of the first text, for messages.
        keep, share: as in :class:`Block`.
    """

    def __init__(
        self, core: Core, texts: Sequence[Any], role: Role, *, first: int = 0, keep: bool = True, share: bool = True
    ) -> None:
        self._core, self._role, self._texts, self._first = core, role, texts, first
        self._blocks = [
            Block(core, texts[start : start + BLOCK_TEXTS], role, first + start, keep=keep, share=share)
            for start in range(0, len(texts), BLOCK_TEXTS)
        ]

    def begin(self, *, timeout_s: float | None = None, here: bool = False) -> None:
        """Queue the texts; where the queue is full, block until there is room.

        Args:
            timeout_s: seconds that it may take.
            here: whether the engine may run on this thread.

        Raises:
            EncodeTimeoutError: it took longer than ``timeout_s``.
            NimbedError: a text cannot be used.
        """

        def start(block: Block) -> None:
            # Tokenizing can't be interrupted: who has a time limit leaves it to a thread that may go on.
            if timeout_s is not None and sum(map(len, block.texts)) > _CHARACTERS_HERE:
                self._core.preparers[self._role].put(block.start)
            else:
                block.start(here=here)

        wait_in_turn(self._enter(start), timeout_s)

    def result(self, *, timeout_s: float | None = None) -> Vectors:
        """As :meth:`begin` and :meth:`end`. Without a timeout the engine may run on this very thread."""
        started = time.monotonic()
        self.begin(timeout_s=timeout_s, here=timeout_s is None and len(self._blocks) == 1)
        return self.end(timeout_s=None if timeout_s is None else timeout_s - (time.monotonic() - started))

    def end(self, *, timeout_s: float | None = None) -> Vectors:
        """Wait for the vectors: float32 ``[n, dim]`` and cut tokens ``[n]``. Raises as :meth:`begin`."""
        return wait_in_turn(self._land(), timeout_s)

    async def aresult(self) -> Vectors:
        """As :meth:`begin` and :meth:`end`, without a thread that waits; cancelling takes out what has not started."""
        await await_in_turn(self._enter(lambda block: self._core.preparers[self._role].put(block.start)))
        return await await_in_turn(self._land())

    def cancel(self) -> None:
        """Take out what has not started."""
        for block in self._blocks:
            block.future.cancel()

    def _enter(self, start: Callable[[Block], None]) -> Generator[Future[Any], None, None]:
        gate = self._core.gates[self._role]
        with self._cancelled_on_error():
            for block in self._blocks:
                place = gate.enter(block.weight)
                if place is not None:
                    try:
                        yield place
                        place.result()
                    except BaseException:
                        if not place.cancel() and place.exception() is None:
                            gate.leave(block.weight)
                        raise
                block.future.add_done_callback(lambda _, weight=block.weight: gate.leave(weight))  # type: ignore[misc]
                start(block)
                if block.future.done():  # what failed at once must not wait for the other blocks
                    block.future.result()

    def _land(self) -> Generator[Future[Any], None, Vectors]:
        info = self._core.engine.info
        if len(self._blocks) == 1 and self._blocks[0].computes_all:
            with self._cancelled_on_error():
                yield self._blocks[0].future
                rows, cut = self._blocks[0].future.result()
            rows = rows.copy()  # others who joined may still read it
        else:
            rows, cut = yield from self._gathered()
        self._core.engine.tokenizer.refuse_cut(cut, range(self._first, self._first + len(cut)))
        return Vectors(cut_to(info.dim, rows, normalize=info.normalize), cut)

    def _gathered(self) -> Generator[Future[Any], None, Vectors]:
        """From the cache, from the blocks, and from the flights of others, in the order of the texts."""
        rows = np.empty((len(self._texts), self._core.engine.spec.dim), np.float32)
        cut = np.zeros(len(self._texts), np.int32)
        with self._cancelled_on_error():
            for block in self._blocks:
                yield block.future
                block.future.result()
            for start, block in zip(range(0, len(self._texts), BLOCK_TEXTS), self._blocks, strict=False):
                part = slice(start, start + len(block.texts))
                block.fill(rows[part], cut[part])
                yield from self._land_flights(block, rows[part], cut[part])
        return Vectors(rows, cut)

    def _land_flights(self, block: Block, rows: Float32Array, cut: Int32Array) -> Generator[Future[Any], None, None]:
        """The vectors that others compute; what they did not bring is computed here, and fails as its own."""
        alone = []
        for index, flight in block.flights():
            yield flight.landing
            if flight.landing.cancelled() or flight.landing.exception() is not None:
                alone.append(index)
            else:
                vectors: Vectors = flight.landing.result()
                rows[index], cut[index] = vectors.rows[flight.position], vectors.cut[flight.position]
        for index in alone:
            again = Block(self._core, [block.texts[index]], self._role, block.first + index, share=False)
            self._blocks.append(again)
            again.start()
            yield again.future
            rows[index], cut[index] = (part[0] for part in again.future.result())

    @contextmanager
    def _cancelled_on_error(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.cancel()
            raise


class Block:
    """Some texts of a call.

    Args:
        core: that embeds them.
        texts: at most ``BLOCK_TEXTS``.
        role: whose prompt they get.
        first: number of the first text, for messages.
        keep: whether the process's cache takes the vectors; a shared tier does in any case.
        share: whether vectors may come from the cache, or from another call that computes them.
    """

    def __init__(
        self, core: Core, texts: Sequence[Any], role: Role, first: int, *, keep: bool = True, share: bool = True
    ) -> None:
        self.texts, self.role, self.first = texts, role, first
        self.weight = sum(map(len, texts)) + _TEXT_WEIGHT * len(texts)
        # Its result has the vectors of the leads.
        self.future: Future[Vectors] = Future()
        self.claim = Claim()
        self._core = core
        self._keep, self._share = keep, share

    def start(self, *, here: bool = False) -> None:
        """Look in the cache, tokenize what it lacks, and queue it. What goes wrong is the future's.

        Args:
            here: whether the engine may run on this thread.
        """
        if self.future.cancelled():
            return
        try:
            self._start(here=here)
        except BaseException as err:
            if not self.future.done() and self.future.set_running_or_notify_cancel():
                self.future.set_exception(err)
            elif not isinstance(err, Exception):  # an interrupt that came when all was done
                raise

    def _start(self, *, here: bool) -> None:
        core, cache = self._core, self._core.cache
        if cache is None or not self._share:
            self._compute(list(range(len(self.texts))), None, here=here)
            return
        keys = core.keys(self.role)(self.texts)
        self.claim = claim = cache.claim(keys, self.future, self.role)
        led = [keys[i] for i in claim.leads]
        self._compute(claim.leads, led, cache.tier.get(led) if cache.tier and led else None, here=here)

    def _compute(
        self, leads: list[int], keys: list[bytes] | None, found: list[Entry | None] | None = None, *, here: bool
    ) -> None:
        """Queue the leads, apart from those that the shared tier had."""
        core = self._core
        missing = [n for n in range(len(leads)) if found is None or found[n] is None]
        self.claim.leads = leads
        items = [self.first + leads[n] for n in missing]
        if missing and self.weight <= _FEW_CHARACTERS:
            core.scheduler.expect()
        tokens = core.tokenize([self.texts[leads[n]] for n in missing], self.role, items)

        def finish(raw: Float32Array) -> Vectors:
            computed = Vectors(core.vectors(raw, tokens), tokens.cut)
            if keys is None or core.cache is None:
                return computed
            if core.cache.tier is not None and missing:
                core.cache.tier.put({keys[n]: computed.entry(at) for at, n in enumerate(missing)})
            vectors = computed if found is None else _merged(computed, missing, found)
            if self._keep:
                core.cache.put(keys, vectors)
            return vectors

        core.scheduler.submit(tokens.sequences, self.role, future=self.future, finish=finish, here=here)

    @property
    def computes_all(self) -> bool:
        """Whether all of its vectors are its own future's result; known once it has started."""
        return len(self.claim.leads) == len(self.texts)

    def flights(self) -> list[tuple[int, Flight]]:
        """Texts that another call, or an earlier place in this one, computes: by index, where their vectors will be."""
        return list(self.claim.flights.items())

    def fill(self, rows: Float32Array, cut: Int32Array) -> None:
        """Write what came of it to ``[n, full_dim]`` and ``[n]``: from the cache, and from the future."""
        claim = self.claim
        if claim.leads:
            rows[claim.leads], cut[claim.leads] = self.future.result()
        if claim.entries:
            known, entries = list(claim.entries), list(claim.entries.values())
            rows[known], cut[known] = rows_of(entries, rows.shape[1]), [entry.cut for entry in entries]


def _merged(computed: Vectors, missing: list[int], found: list[Entry | None]) -> Vectors:
    rows = np.empty((len(found), computed.rows.shape[1]), np.float32)
    cut = np.zeros(len(found), np.int32)
    rows[missing], cut[missing] = computed
    for n, entry in enumerate(found):
        if entry is not None:
            rows[n], cut[n] = np.frombuffer(entry.row, np.float32), entry.cut
    return Vectors(rows, cut)
