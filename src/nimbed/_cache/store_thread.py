"""The one thread that uses a store; callers wait for it no longer than their limit."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from tenacity import (
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    stop_after_delay,
    wait_random_exponential,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from nimbed._cache.breaker import Breaker
    from nimbed._cache.stores import Store

logger = logging.getLogger("nimbed")

Item = TypeVar("Item")

# Values in one write, so that reads get their turn; and how many writes wait before more are dropped.
_MAX_WRITE_VALUES = 64
_MAX_WRITES = 256
# No further caller joins a read that has this many keys.
_MAX_READ_KEYS = 512
_MAX_ATTEMPTS = 3
_CLOSE_S = 2.0


@dataclass(eq=False)
class Read:
    """What a caller asks for, and the queue in which the answer comes: None where the store failed."""

    keys: Sequence[bytes]
    # Without a lock of Python's: a signal handler that runs on the thread that holds it would wait for ever.
    answer: queue.SimpleQueue[list[object] | None] = field(default_factory=queue.SimpleQueue)
    over: bool = False


class StoreThread:
    """Uses a store on a thread of its own: reads of many callers in one operation, writes in pieces between them.

    Whatever the store raises is its failure; so is a malformed reply, and one that comes too late. After a failure all
    that waits is failed or dropped, and the breaker says when the store is used again.

    Args:
        store: used by this thread only, but for ``interrupt``.
        timeout_s: no retry begins later than this; a caller waits twice as long for the whole.
        breaker: of this store.
        failed: called after each failure.
        wrote: called with how many values were written (True) or dropped (False).
    """

    def __init__(
        self,
        store: Store,
        *,
        timeout_s: float,
        breaker: Breaker,
        failed: Callable[[BaseException], None],
        wrote: Callable[[int, bool], None],
    ) -> None:
        self._store = store
        self._timeout_s = timeout_s
        self._breaker = breaker
        self._failed, self._wrote = failed, wrote
        # No lock is held while anything waits: a signal handler may use the tier too.
        self._reads: deque[Read] = deque()
        self._writes: deque[dict[bytes, bytes]] = deque()
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._starting = threading.RLock()
        self._thread: threading.Thread | None = None
        self._began: float | None = None  # when the operation began that runs now
        self._closed = False

    def get(self, keys: Sequence[bytes]) -> list[object] | None:
        """Values in the order of the keys, or None where the store has failed."""
        if self._closed or not self._breaker.allows():
            return None
        read = Read(keys)
        try:
            if not self._runs():
                return None
            self._reads.append(read)
            self._wake.put(None)
            return read.answer.get(timeout=2 * self._timeout_s)
        except Exception as err:  # noqa: BLE001 (no call fails because of a tier)
            self._fail(TimeoutError() if isinstance(err, queue.Empty) else err)
            return None
        finally:
            read.over = True

    def put(self, values: Mapping[bytes, bytes]) -> None:
        """Queue values to be written, or drop them where that can't be done."""
        left = iter(values.items())
        while piece := dict(islice(left, _MAX_WRITE_VALUES)):
            if not self._put(piece):
                self._wrote(len(piece), False)

    @property
    def down(self) -> bool:
        """Whether the store is not asked now, or does not answer."""
        return self._breaker.open or self._hangs()

    def close(self) -> None:
        """Write what waits, for two seconds at most; the rest is dropped."""
        self._closed = True
        self._wake.put(None)
        thread = self._thread
        if thread is None:
            self._close_store()
        elif thread is not threading.current_thread():
            thread.join(_CLOSE_S)
            self._drop_waiting()
            self._interrupt()

    def _put(self, piece: dict[bytes, bytes]) -> bool:
        if self._closed or self._breaker.open or len(self._writes) >= _MAX_WRITES:
            return False
        try:
            if not self._runs():
                return False
        except Exception as err:  # noqa: BLE001 (no call fails because of a tier)
            self._fail(err)
            return False
        self._writes.append(piece)
        self._wake.put(None)
        return True

    def _runs(self) -> bool:
        """Whether the thread is there, which starts with the first call; not while that call starts it."""
        if self._hangs():
            raise TimeoutError
        with self._starting:
            if self._thread is None:
                try:
                    self._thread = threading.Thread(target=self._work, name="nimbed-tier", daemon=True)
                    self._thread.start()
                except BaseException:
                    self._thread = None
                    raise
            return self._thread.is_alive()

    def _hangs(self) -> bool:
        began = self._began
        return began is not None and time.monotonic() - began > 2 * self._timeout_s

    def _work(self) -> None:
        going = True
        while going:
            try:
                going = self._turn()
            except BaseException as err:  # noqa: BLE001 (no caller gets it)
                self._fail(err)
            finally:
                self._began = None
        if threading.current_thread() is self._thread:
            self._close_store()

    def _turn(self) -> bool:
        """One operation; False when there is nothing more to do."""
        self._wake.get()
        if (
            threading.current_thread() is not self._thread
        ):  # its start was interrupted, and another thread took its place
            return False
        reads = self._next_reads()
        piece = _next(self._writes) if not reads else None
        self._began = time.monotonic()
        if reads:
            self._read([read for read in reads if not read.over])
        elif piece:
            self._wrote(len(piece), self._attempt(self._store.put, piece) is not None)
        return bool(reads or piece or not self._closed)

    def _next_reads(self) -> list[Read]:
        reads: list[Read] = []
        keys = 0
        while keys < _MAX_READ_KEYS and (read := _next(self._reads)):
            reads.append(read)
            keys += len(read.keys)
        return reads

    def _read(self, reads: Sequence[Read]) -> None:
        keys = [key for read in reads for key in read.keys]
        values = self._attempt(self._values, keys) if keys else []
        start = 0
        for read in reads:
            read.answer.put(None if values is None else values[start : start + len(read.keys)])
            start += len(read.keys)

    def _values(self, keys: Sequence[bytes]) -> list[object]:
        values: object = self._store.get(keys)
        if type(values) is not list or len(values) != len(keys):
            raise ValueError("a reply of the wrong type or length")
        return values

    def _attempt(self, operation: Callable[[Any], Any], argument: object) -> Any:  # noqa: ANN401 (what the store gives)
        """The operation's result, True where it has none, or None where it failed."""
        retrying = Retrying(
            retry=retry_if_exception(lambda error: isinstance(error, Exception) and not self._hangs()),
            stop=stop_after_attempt(_MAX_ATTEMPTS) | stop_after_delay(self._timeout_s),
            wait=wait_random_exponential(multiplier=self._timeout_s / 20, max=self._timeout_s / 4),
            reraise=True,
        )
        try:
            result = retrying(operation, argument)
        except BaseException as err:  # noqa: BLE001 (an extension's own, too)
            self._fail(err)
            return None
        if self._hangs():
            self._fail(TimeoutError())
        else:
            self._breaker.worked()
        return True if result is None else result

    def _fail(self, error: BaseException) -> None:
        if self._breaker.failed():
            self._failed(error)
        self._drop_waiting()
        if threading.current_thread() is not self._thread:
            self._interrupt()

    def _drop_waiting(self) -> None:
        """Fail the reads and drop the writes that wait."""
        while read := _next(self._reads):
            read.answer.put(None)
        while piece := _next(self._writes):
            self._wrote(len(piece), False)

    def _interrupt(self) -> None:
        """End the operation that runs, where the store can."""
        if self._began is not None:
            with suppress(Exception):
                self._store.interrupt()

    def _close_store(self) -> None:
        try:
            self._store.close()
        except BaseException:
            logger.debug("closing a store failed", exc_info=True)


def _next(waiting: deque[Item]) -> Item | None:
    try:
        return waiting.popleft()
    except IndexError:
        return None
