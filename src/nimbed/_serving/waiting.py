"""How a thread and how an event loop wait: steps yield promises, get what became of each, and return a result."""

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
    """This thread would wait for a thread that may be waiting for this one; see :mod:`nimbed._serving.reentry`."""


def ends_at(timeout_s: float | None) -> float | None:
    """When a call's time is over, by the monotonic clock; None for no limit (infinity is none either).

    Raises:
        InputError: it is not a number of seconds.
    """
    if timeout_s is None:
        return None
    if isinstance(timeout_s, bool) or not isinstance(timeout_s, Real) or not timeout_s >= 0:
        raise InputError(f"timeout_s={timeout_s!r} must be a number of seconds from 0 on, or None for no limit")
    # A lock counts nanoseconds in 64 bits; longer than that is no limit.
    return None if timeout_s > threading.TIMEOUT_MAX / 2 else time.monotonic() + float(timeout_s)


def run_waiting(steps: Generator[Promise[Any], Any, T], until: float | None) -> T:
    """Run the steps to their end on this thread, which waits for each promise that they yield.

    Raises:
        EncodeTimeoutError: the clock reached ``until``, as :func:`ends_at` gives it.
        WaitsForItselfError: this thread must not wait.
    """
    try:
        promise = next(steps)
        while True:
            _wait(promise, until)
            promise = _resume(steps, promise)
    except StopIteration as stop:
        result: T = stop.value
        return result


async def run_awaiting(steps: Generator[Promise[Any], Any, T]) -> T:
    """As :func:`run_waiting`, on an event loop."""
    try:
        promise = next(steps)
        while True:
            await _await(promise)
            promise = _resume(steps, promise)
    except StopIteration as stop:
        result: T = stop.value
        return result


def _resume(steps: Generator[Promise[Any], Any, T], promise: Promise[Any]) -> Promise[Any]:
    """The promise that the steps yield next; what became of this one is sent, or thrown, in at its ``yield``."""
    error = promise.exception()
    return steps.send(promise.result()) if error is None else steps.throw(error)


def _wait(promise: Promise[Any], until: float | None) -> None:
    """Wait until the promise is done, whatever its outcome."""
    if promise.done():
        return
    if within_a_call():
        raise WaitsForItselfError
    if not promise.wait(None if until is None else max(0.0, until - time.monotonic())):
        raise EncodeTimeoutError(
            "the vectors did not come within timeout_s; the engine has more work than it can do in that time"
        )


async def _await(promise: Promise[Any]) -> None:
    """As :func:`_wait`. A cancelled task does not cancel the promise: others may wait for it too."""
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
