"""A result to come that any thread may wait for, resolve or cancel, and that an interrupt cannot leave half done."""

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

    An interrupt (Ctrl-C) may leave a Future's lock taken, or the Future "running" for ever. Here the first outcome
    counts, which is set in one indivisible step, and callbacks that an interrupt prevented are called when the next
    outcome is set. So a callback may be called twice, and must be idempotent.
    """

    __slots__ = ("_callbacks", "_notified", "_outcome")

    def __init__(self) -> None:
        self._outcome: dict[None, tuple[T | None, BaseException | None]] = {}  # empty, or one
        self._callbacks: list[Callable[[Promise[T]], object]] = []
        self._notified = False

    def set_result(self, result: T) -> None:
        """Set the result, unless there is an outcome."""
        self._resolve(result, None)

    def set_exception(self, error: BaseException) -> None:
        """Fail, unless there is an outcome."""
        self._resolve(None, error)

    def cancel(self) -> bool:
        """Cancel, unless there is an outcome; whether it is cancelled."""
        self._resolve(None, CancelledError())
        return self.cancelled()

    def done(self) -> bool:
        """Whether there is an outcome."""
        return bool(self._outcome)

    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self.done() and isinstance(self._outcome[None][1], CancelledError)

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until it is done, for ``timeout_s`` at most; whether it is."""
        if not self._outcome:
            box: SimpleQueue[object] = SimpleQueue()  # its put may be called within itself, and twice
            self.add_done_callback(box.put)
            with suppress(Empty):
                box.get(timeout=timeout_s)
        return bool(self._outcome)

    def result(self, timeout_s: float | None = None) -> T:
        """Wait for the result.

        Raises:
            BaseException: what it failed with; CancelledError where it was cancelled.
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
        """Call with the promise when it is done: on the thread that sets the outcome, or at once."""
        self._callbacks.append(callback)
        if self._outcome:
            callback(self)

    def _resolve(self, result: T | None, error: BaseException | None) -> None:
        try:
            self._outcome.setdefault(None, (result, error))
            self._notify()
        except BaseException:  # an interrupt; if it is the second one, nobody else may set an outcome after it
            self._notify()
            raise

    def _notify(self) -> None:
        if self._notified:
            return
        for callback in self._callbacks:
            try:
                callback(self)
            except Exception:  # the others are called all the same
                logger.exception("a callback at the end of a call failed")
        self._notified = True
