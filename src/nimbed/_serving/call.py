"""One call on its way: its texts in blocks, admitted one after another, and their vectors in order at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nimbed._cache.lru import Vectors
from nimbed._serving.block import Block
from nimbed._serving.reentry import within_a_call
from nimbed._serving.waiting import WaitsForItselfError, run_awaiting, run_waiting
from nimbed._text.checks import blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from nimbed._promise import Promise
    from nimbed._serving.runtime import Runtime
    from nimbed._types import Role

# Tokenizing these takes a few milliseconds.
_MAX_CHARACTERS_INLINE = 20_000
# And these some 50 microseconds, in which a thread would hardly wake: an event loop does it itself.
_MAX_CHARACTERS_ON_LOOP = 500


class Call:
    """Texts of one caller, from the admission limit to their vectors.

    All that a call waits for is one sequence of promises; threads and event loops differ only in how they wait.
    Whatever ends it early cancels all of its blocks, and with them all that they hold.

    Args:
        runtime: that embeds them.
        texts: any number; pairs where the model scores.
        role: whose prompt they get.
        first: number of the first text, for messages.
        keep, share: as in :class:`nimbed._serving.block.Block`.
    """

    def __init__(
        self,
        runtime: Runtime,
        texts: Sequence[Any],
        role: Role,
        *,
        first: int = 0,
        keep: bool = True,
        share: bool = True,
    ) -> None:
        self._runtime, self._role, self._texts, self._first = runtime, role, texts, first
        self._blocks = [
            Block(runtime, block, role, first + start, keep=keep, share=share) for start, block in blocks(texts)
        ]
        self._own = tuple(self._blocks)  # further ones compute again what failed elsewhere
        self._unqueued: Vectors | None = None

    def result(self, until: float | None = None) -> Vectors:
        """The vectors: float32 ``[n, dim]``, and cut tokens ``[n]``.

        Args:
            until: when its time is over, as :func:`nimbed._serving.waiting.ends_at` gives it. Without that the
                engine may run on this very thread.

        Raises:
            EncodeTimeoutError: it took longer.
            NimbedError: a text cannot be used.
        """
        self.begin(until, inline=until is None and len(self._blocks) == 1)
        return self.end(until)

    def begin(self, until: float | None = None, *, inline: bool = False) -> None:
        """Queue the texts; where the queue is full, block until there is room. Raises as :meth:`result`.

        Args:
            until: when its time is over.
            inline: whether the engine may run on this thread.
        """
        if within_a_call():  # what is queued could be run before it is found that this thread must not wait for it
            self._unqueued = self._compute_unqueued()
            return
        try:
            run_waiting(self._enter(lambda block: self._start(block, until, inline=inline)), until)
        except BaseException:
            self.cancel()
            raise

    def end(self, until: float | None = None) -> Vectors:
        """Wait for the vectors. Raises as :meth:`result`."""
        try:
            return run_waiting(self._vectors(), until)
        except WaitsForItselfError:
            self.cancel()
            self._unqueued = self._compute_unqueued()
            return run_waiting(self._vectors(), until)
        except BaseException:
            self.cancel()
            raise

    async def aresult(self, *, inline: bool = False) -> Vectors:
        """As :meth:`result`, without a thread that waits; cancelling takes out what has not started.

        Args:
            inline: whether the engine may run on this thread where the call is short: the event loop waits for it.
        """
        try:
            await run_awaiting(self._enter(lambda block: self._start_off_loop(block, inline=inline)))
            return await run_awaiting(self._vectors())
        except BaseException:
            self.cancel()
            raise

    def cancel(self) -> None:
        """Take out what has not started."""
        for block in self._blocks:
            block.promise.cancel()

    def tokens(self) -> list[int]:
        """How many tokens each text has, as the model reads it; what a cache answered is tokenized for it."""
        return [count for block in self._own for count in self._tokens(block)]

    @property
    def all_tokenized(self) -> bool:
        """Whether :meth:`tokens` needs no tokenizer."""
        return all(len(block.tokens) == len(block.texts) for block in self._own)

    def _enter(self, start: Callable[[Block], None]) -> Generator[Promise[Any], Any, None]:
        for block in self._blocks:
            admitted = block.enter()
            if admitted is not None:
                yield admitted
            start(block)
            if block.promise.done():  # what failed at once must not wait for the other blocks
                block.promise.result()

    def _start(self, block: Block, until: float | None, *, inline: bool) -> None:
        # Tokenizing can't be interrupted: a caller with a time limit leaves it to a thread that may go on.
        if until is not None and block.weight > _MAX_CHARACTERS_INLINE:
            self._start_on_thread(block)
        else:
            block.start(inline=inline)

    def _start_off_loop(self, block: Block, *, inline: bool) -> None:
        if block.weight <= _MAX_CHARACTERS_ON_LOOP and not self._runtime.has_tier:
            block.start(inline=inline)
        else:
            self._start_on_thread(block)

    def _start_on_thread(self, block: Block) -> None:
        self._runtime.tokenizing_threads[self._role].put(block.start)

    def _tokens(self, block: Block) -> list[int]:
        tokens, others = block.tokens, [index for index in range(len(block.texts)) if index not in block.tokens]
        if others:
            texts, items = [block.texts[index] for index in others], [block.first + index for index in others]
            tokens = tokens | dict(zip(others, self._runtime.tokenize(texts, self._role, items).lengths, strict=True))
        return [tokens[index] for index in range(len(block.texts))]

    def _compute_unqueued(self) -> Vectors:
        """On this thread, without cache and queue: it waits for nothing."""
        items = range(self._first, self._first + len(self._texts))
        tokens = self._runtime.tokenize(self._texts, self._role, items)
        return self._runtime.compute_unqueued(tokens, self._role)

    def _vectors(self) -> Generator[Promise[Any], Any, Vectors]:
        """From the blocks, and from other calls that compute the same texts, in the order of the texts."""
        if self._unqueued is not None:
            return self._runtime.for_caller(self._unqueued, first=self._first, shared=False)
        for block in self._blocks:
            yield block.promise
        if len(self._blocks) == 1 and not self._blocks[0].claim.in_flight:
            return self._runtime.for_caller(self._blocks[0].promise.result(), first=self._first, shared=True)
        vectors = self._joined()
        for block in tuple(self._blocks):  # to which others are added here
            yield from self._fill_in_flight(block, vectors)
        return self._runtime.for_caller(vectors, first=self._first, shared=False)

    def _joined(self) -> Vectors:
        rows = np.empty((len(self._texts), self._runtime.engine.spec.dim), np.float32)
        cut = np.zeros(len(self._texts), np.int32)
        for block in self._blocks:
            start = block.first - self._first
            part = slice(start, start + len(block.texts))
            rows[part], cut[part] = block.promise.result()
        return Vectors(rows, cut)

    def _fill_in_flight(self, block: Block, vectors: Vectors) -> Generator[Promise[Any], Any, None]:
        """What other calls compute of a block; where one fails, the text is computed here, and fails as its own."""
        failed = []
        for index, in_flight in block.claim.in_flight.items():
            at = block.first - self._first + index
            try:
                others: Vectors = yield in_flight.promise
            except BaseException as err:
                if err is not in_flight.promise.exception():  # an interrupt of this call
                    raise
                failed.append((index, at))
            else:
                vectors.rows[at], vectors.cut[at] = others.rows[in_flight.position], others.cut[in_flight.position]
        for index, at in failed:
            again = Block(self._runtime, [block.texts[index]], self._role, block.first + index, share=False)
            self._blocks.append(again)
            again.start()
            own: Vectors = yield again.promise
            vectors.rows[at], vectors.cut[at] = own.rows[0], own.cut[0]
