"""How a thread and how an event loop wait: steps name one promise after another, and give a result at the end."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from numbers import Real
from typing import TYPE_CHECKING, Any, TypeVar

from nimbed._serving.reentry import within_a_call
from nimbed.errors import EncodeTimeoutError, InputError

if TYPE_CHECKING:
    from collections.abc import Generator

    from nimbed._promise import Promise

T = TypeVar("T")


class WaitsForItselfError(Exception):
    """This thread would wait, and whom it waits for may be waiting for it; see :mod:`nimbed._serving.reentry`."""


def ends_at(timeout_s: float | None) -> float | None:
    """When a call's time is over, by the monotonic clock; None for no limit, which infinity is too.

    Raises:
        InputError: it is no number of seconds.
    """
    if timeout_s is None:
        return None
    if isinstance(timeout_s, bool) or not isinstance(timeout_s, Real) or not timeout_s >= 0:
        raise InputError(f"timeout_s={timeout_s!r} must be a number of seconds from 0 on, or None for no limit")
    # A lock counts nanoseconds in 64 bits; longer than that is no limit.
    return None if timeout_s > threading.TIMEOUT_MAX / 2 else time.monotonic() + float(timeout_s)


def wait_in_turn(steps: Generator[Promise[Any], None, T], until: float | None) -> T:
    """Wait for each promise that the steps name, on this thread.

    Raises:
        EncodeTimeoutError: the clock reached ``until``, as :func:`ends_at` gives it.
        WaitsForItselfError: this thread must not wait.
    """
    while True:
        try:
            promise = next(steps)
        except StopIteration as stop:
            result: T = stop.value
            return result
        _wait(promise, until)


async def await_in_turn(steps: Generator[Promise[Any], None, T]) -> T:
    """As :func:`wait_in_turn`, on an event loop."""
    while True:
        try:
            promise = next(steps)
        except StopIteration as stop:
            result: T = stop.value
            return result
        await _await(promise)


def _wait(promise: Promise[Any], until: float | None) -> None:
    """Until the promise is done, whatever became of it."""
    if promise.done():
        return
    if within_a_call():
        raise WaitsForItselfError
    if not promise.wait(None if until is None else max(0.0, until - time.monotonic())):
        raise EncodeTimeoutError(
            "the vectors did not come within timeout_s; the engine has more work than it can do in that time"
        )


async def _await(promise: Promise[Any]) -> None:
    """As :func:`_wait`. Giving up does not cancel the promise: others may wait for it too."""
    if promise.done():
        return
    import asyncio  # takes long to import; here a loop has done that

    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def wake(_: Promise[Any]) -> None:
        with suppress(RuntimeError):  # the loop has closed
            loop.call_soon_threadsafe(lambda: None if done.done() else done.set_result(None))

    promise.add_done_callback(wake)
    await done
