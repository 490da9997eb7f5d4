"""One call on its way: its texts in blocks, what the cache has of each, and its vectors in order at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nimbed._cache.lru import Claim, Entry, Vectors, rows_of
from nimbed._promise import Promise
from nimbed._serving.admission_limit import Ticket
from nimbed._serving.postprocess import cut_to
from nimbed._serving.waiting import WaitsForItselfError, run_awaiting, run_waiting
from nimbed._text.checks import blocks
from nimbed._text.tokenizer import FEW_CHARACTERS

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from nimbed._cache.lru import Flight
    from nimbed._serving.runtime import Core
    from nimbed._types import Float32Array, Int32Array, Role

# So many are tokenized in some milliseconds.
_CHARACTERS_HERE = 20_000
# What a text weighs at the gate beside its characters.
_TEXT_WEIGHT = 64


class Call:
    """Texts of one caller, from the gate to their vectors.

    What there is to wait for is one sequence of promises; a thread and an event loop differ in how they wait alone.
    Whatever ends it early gives up all of its blocks, and with them all that they hold.

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
            Block(core, block, role, first + start, keep=keep, share=share) for start, block in blocks(texts)
        ]
        self._apart: Vectors | None = None

    def result(self, until: float | None = None) -> Vectors:
        """The vectors: float32 ``[n, dim]``, and cut tokens ``[n]``.

        Args:
            until: when its time is over, as :func:`nimbed._serving.waiting.ends_at` gives it. Without that the
                engine may run on this very thread.

        Raises:
            EncodeTimeoutError: it took longer.
            NimbedError: a text cannot be used.
        """
        self.begin(until, here=until is None and len(self._blocks) == 1)
        return self.end(until)

    def begin(self, until: float | None = None, *, here: bool = False) -> None:
        """Queue the texts; where the queue is full, block until there is room. Raises as :meth:`result`.

        Args:
            until: when its time is over.
            here: whether the engine may run on this thread.
        """
        try:
            run_waiting(self._enter(lambda block: self._start(block, until, here=here)), until)
        except WaitsForItselfError:
            self.cancel()
            self._apart = self._run_apart()
        except BaseException:
            self.cancel()
            raise

    def end(self, until: float | None = None) -> Vectors:
        """Wait for the vectors. Raises as :meth:`result`."""
        try:
            return run_waiting(self._land(), until)
        except WaitsForItselfError:
            self.cancel()
            self._apart = self._run_apart()
            return run_waiting(self._land(), until)
        except BaseException:
            self.cancel()
            raise

    async def aresult(self) -> Vectors:
        """As :meth:`result`, without a thread that waits; cancelling takes out what has not started."""
        try:
            await run_awaiting(self._enter(self._start_elsewhere))
            return await run_awaiting(self._land())
        except BaseException:
            self.cancel()
            raise

    def cancel(self) -> None:
        """Take out what has not started."""
        for block in self._blocks:
            block.promise.cancel()

    def _enter(self, start: Callable[[Block], None]) -> Generator[Promise[Any], Any, None]:
        for block in self._blocks:
            place = block.enter()
            if place is not None:
                yield place
            start(block)
            if block.promise.done():  # what failed at once must not wait for the other blocks
                block.promise.result()

    def _start(self, block: Block, until: float | None, *, here: bool) -> None:
        # Tokenizing can't be interrupted: who has a time limit leaves it to a thread that may go on.
        if until is not None and block.weight > _CHARACTERS_HERE:
            self._start_elsewhere(block)
        else:
            block.start(here=here)

    def _start_elsewhere(self, block: Block) -> None:
        self._core.preparers[self._role].put(block.start)

    def _run_apart(self) -> Vectors:
        """On this thread, with nothing shared."""
        items = range(self._first, self._first + len(self._texts))
        tokens = self._core.tokenize(self._texts, self._role, items)
        return Vectors(self._core.vectors_apart(tokens, self._role), tokens.cut)

    def _land(self) -> Generator[Promise[Any], Any, Vectors]:
        info = self._core.engine.info
        if self._apart is not None:
            rows, cut = self._apart
        elif len(self._blocks) == 1 and self._blocks[0].computes_all:
            rows, cut = yield self._blocks[0].promise
            rows = rows.copy()  # others who joined may still read it
        else:
            rows, cut = yield from self._gathered()
        self._core.engine.tokenizer.refuse_cut(cut, range(self._first, self._first + len(cut)))
        return Vectors(cut_to(info.dim, rows, normalize=info.normalize), cut)

    def _gathered(self) -> Generator[Promise[Any], Any, Vectors]:
        """From the cache, from the blocks, and from the flights of others, in the order of the texts."""
        rows = np.empty((len(self._texts), self._core.engine.spec.dim), np.float32)
        cut = np.zeros(len(self._texts), np.int32)
        for block in self._blocks:
            yield block.promise
        for block in tuple(self._blocks):  # which _land_flights adds to
            start = block.first - self._first
            part = slice(start, start + len(block.texts))
            block.fill(rows[part], cut[part])
            yield from self._land_flights(block, rows[part], cut[part])
        return Vectors(rows, cut)

    def _land_flights(self, block: Block, rows: Float32Array, cut: Int32Array) -> Generator[Promise[Any], Any, None]:
        """The vectors that others compute; what they did not bring is computed here, and fails as its own."""
        alone = []
        for index, flight in block.flights():
            try:
                vectors: Vectors = yield flight.landing
            except BaseException as err:
                if err is not flight.landing.exception():  # an interrupt of this call
                    raise
                alone.append(index)
            else:
                rows[index], cut[index] = vectors.rows[flight.position], vectors.cut[flight.position]
        for index in alone:
            again = Block(self._core, [block.texts[index]], self._role, block.first + index, share=False)
            self._blocks.append(again)
            again.start()
            vectors = yield again.promise
            rows[index], cut[index] = vectors.rows[0], vectors.cut[0]


class Block:
    """Some texts of a call.

    Args:
        core: that embeds them.
        texts: as many as :func:`nimbed._text.checks.blocks` puts together.
        role: whose prompt they get.
        first: number of the first text, for messages.
        keep: whether the process's cache takes the vectors; a shared tier does in any case.
        share: whether vectors may come from the cache, or from another call that computes them.
    """

    def __init__(
        self, core: Core, texts: Sequence[Any], role: Role, first: int, *, keep: bool = True, share: bool = True
    ) -> None:
        self.texts, self.role, self.first = texts, role, first
        # Its result has the vectors of the leads.
        self.promise: Promise[Vectors] = Promise()
        self.claim = Claim()
        self.weight = sum(map(len, texts)) + _TEXT_WEIGHT * len(texts)
        self._ticket = Ticket(self.weight)
        self._core = core
        self._keep, self._share = keep, share

    def enter(self) -> Promise[None] | None:
        """None where there is room at the gate, or what is done when there is; it leaves when it is done itself."""
        gate, ticket = self._core.gates[self.role], self._ticket
        self.promise.add_done_callback(lambda _: gate.leave(ticket))  # before it enters: nobody may stay within
        return gate.enter(ticket)

    def start(self, *, here: bool = False) -> None:
        """Look in the cache, tokenize what it lacks, and queue it. What goes wrong is the promise's.

        Args:
            here: whether the engine may run on this thread.
        """
        if self.promise.done():
            return
        try:
            self._core.refuse_closed()
            self._start(here=here)
        except BaseException as err:
            self.promise.set_exception(err)
            if not isinstance(err, Exception):
                raise

    def _start(self, *, here: bool) -> None:
        core, cache = self._core, self._core.cache
        if cache is None or not self._share:
            self._compute(list(range(len(self.texts))), None, here=here)
            return
        keys = core.keys(self.role)(self.texts)
        self.claim = claim = cache.claim(keys, self.promise, self.role)
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
        if missing and self.weight <= FEW_CHARACTERS:  # tokenized in about the time in which a thread wakes
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

        core.scheduler.submit(tokens.sequences, self.role, promise=self.promise, finish=finish, here=here)

    @property
    def computes_all(self) -> bool:
        """Whether all of its vectors are its own promise's result; known once it has started."""
        return len(self.claim.leads) == len(self.texts)

    def flights(self) -> list[tuple[int, Flight]]:
        """Texts that another call, or an earlier place in this one, computes: by index, where their vectors will be."""
        return list(self.claim.flights.items())

    def fill(self, rows: Float32Array, cut: Int32Array) -> None:
        """Write what came of it to ``[n, full_dim]`` and ``[n]``: from the cache, and from the promise."""
        claim = self.claim
        if claim.leads:
            rows[claim.leads], cut[claim.leads] = self.promise.result()
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
