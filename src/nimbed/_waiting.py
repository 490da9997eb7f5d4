"""How a thread and how an event loop wait: steps name one future after another, and give a result at the end."""

from __future__ import annotations

import time
from concurrent.futures import CancelledError
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from nimbed.errors import EncodeTimeoutError

if TYPE_CHECKING:
    from collections.abc import Generator
    from concurrent.futures import Future

T = TypeVar("T")


def wait_in_turn(steps: Generator[Future[Any], None, T], timeout_s: float | None) -> T:
    """Wait for each future that the steps name, on this thread.

    Raises:
        EncodeTimeoutError: it took longer than ``timeout_s`` in all.
    """
    until = None if timeout_s is None else time.monotonic() + timeout_s
    try:
        future = next(steps)
        while True:
            try:
                _wait(future, None if until is None else max(0.0, until - time.monotonic()))
            except BaseException as err:  # noqa: BLE001 (the steps clean up and raise it)
                future = steps.throw(err)
            else:
                future = next(steps)
    except StopIteration as stop:
        result: T = stop.value
        return result


async def await_in_turn(steps: Generator[Future[Any], None, T]) -> T:
    """As :func:`wait_in_turn`, on an event loop."""
    try:
        future = next(steps)
        while True:
            try:
                await _await(future)
            except BaseException as err:  # noqa: BLE001 (the steps clean up and raise it)
                future = steps.throw(err)
            else:
                future = next(steps)
    except StopIteration as stop:
        result: T = stop.value
        return result


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
