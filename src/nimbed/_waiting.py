"""How a thread and how an event loop wait: steps name one future after another, and give a result at the end."""

from __future__ import annotations

import time
from concurrent.futures import CancelledError
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from nimbed.errors import EncodeTimeoutError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from concurrent.futures import Future

T = TypeVar("T")


def wait_in_turn(steps: Generator[Future[Any], None, T], timeout_s: float | None) -> T:
    """Wait for each future that the steps name, on this thread.

    Raises:
        EncodeTimeoutError: it took longer than ``timeout_s`` in all.
    """
    until = None if timeout_s is None else time.monotonic() + timeout_s
    turns = _Turns(steps)
    for future in turns:
        with turns:
            _wait(future, None if until is None else max(0.0, until - time.monotonic()))
    return turns.result


async def await_in_turn(steps: Generator[Future[Any], None, T]) -> T:
    """As :func:`wait_in_turn`, on an event loop."""
    turns = _Turns(steps)
    for future in turns:
        with turns:
            await _await(future)
    return turns.result


class _Turns(Generic[T]):
    """The futures that steps name. What waiting for one raises is the steps' to clean up after, and to raise."""

    result: T

    def __init__(self, steps: Generator[Future[Any], None, T]) -> None:
        self._steps = steps
        self._error: BaseException | None = None

    def __iter__(self) -> Iterator[Future[Any]]:
        return self

    def __next__(self) -> Future[Any]:
        error, self._error = self._error, None
        try:
            return next(self._steps) if error is None else self._steps.throw(error)
        except StopIteration as stop:
            self.result = stop.value
            raise

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        self._error = error
        return error is not None


def _wait(future: Future[Any], timeout_s: float | None) -> None:
    """Until the future is done, whatever became of it."""
    try:
        future.exception(timeout_s)
    except CancelledError:
        return
    except FutureTimeoutError:
        raise EncodeTimeoutError(
            "the vectors did not come within timeout_s; the engine has more work than it can do in that time"
        ) from None


async def _await(future: Future[Any]) -> None:
    """As :func:`_wait`. Giving up does not cancel the future: others may wait for it too."""
    if future.done():
        return
    import asyncio  # takes long to import; here a loop has done that

    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def wake(_: Future[Any]) -> None:
        with suppress(RuntimeError):  # the loop has closed
            loop.call_soon_threadsafe(lambda: None if done.done() else done.set_result(None))

    future.add_done_callback(wake)
    await done
