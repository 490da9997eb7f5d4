"""A result to come that any thread may wait for, bring or give up, whatever interrupts it."""

from __future__ import annotations

import logging
from concurrent.futures import CancelledError
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger("nimbed")

T = TypeVar("T")


class Promise(Generic[T]):
    """Used as :class:`concurrent.futures.Future` is, without its locks and without a state between waiting and done.

    An interrupt (Ctrl-C) may leave a Future's lock taken, or the Future "running" for ever. Here it is the first who
    brings an outcome that counts, in one step that cannot be divided, and what an interrupt kept from being told is
    told by the next who brings one. So a callback may be called twice, and must not mind.
    """

    __slots__ = ("_callbacks", "_outcome", "_told")

    def __init__(self) -> None:
        self._outcome: dict[None, tuple[T | None, BaseException | None]] = {}  # empty, or one
        self._callbacks: list[Callable[[Promise[T]], object]] = []
        self._told = False

    def set_result(self, result: T) -> None:
        """Bring the result, unless there is an outcome."""
        self._resolve(result, None)

    def set_exception(self, error: BaseException) -> None:
        """Fail, unless there is an outcome."""
        self._resolve(None, error)

    def cancel(self) -> bool:
        """Give up, unless there is an outcome; whether it is given up."""
        self._resolve(None, CancelledError())
        return self.cancelled()

    def done(self) -> bool:
        """Whether there is an outcome."""
        return bool(self._outcome)

    def cancelled(self) -> bool:
        """Whether it was given up."""
        return self.done() and isinstance(self._outcome[None][1], CancelledError)

    def wait(self, timeout_s: float | None = None) -> bool:
        """Until it is done, and so long at most; whether it is."""
        if not self._outcome:
            box: SimpleQueue[object] = SimpleQueue()  # its put may be called within itself, and twice
            self.add_done_callback(box.put)
            with suppress(Empty):
                box.get(timeout=timeout_s)
        return bool(self._outcome)

    def result(self, timeout_s: float | None = None) -> T:
        """Wait for the result.

        Raises:
            BaseException: what it failed with; CancelledError where it was given up.
            TimeoutError: it did not come in time.
        """
        if not self.wait(timeout_s):
            raise TimeoutError
        result, error = self._outcome[None]
        if error is not None:
            raise error
        return result  # type: ignore[return-value]

    def exception(self) -> BaseException | None:
        """What it failed with, if it is done."""
        return self._outcome[None][1] if self._outcome else None

    def add_done_callback(self, callback: Callable[[Promise[T]], object]) -> None:
        """Call with the promise when it is done: on the thread that brings the outcome, or at once."""
        self._callbacks.append(callback)
        if self._outcome:
            callback(self)

    def _resolve(self, result: T | None, error: BaseException | None) -> None:
        try:
            self._outcome.setdefault(None, (result, error))
            self._tell()
        except BaseException:  # an interrupt, and where it is the second one nobody may come after this
            self._tell()
            raise

    def _tell(self) -> None:
        if self._told:
            return
        for callback in self._callbacks:
            try:
                callback(self)
            except Exception:  # the others are told all the same
                logger.exception("what was to happen at the end of a call failed")
        self._told = True
