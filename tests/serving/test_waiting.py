"""Steps that yield promises: what became of each comes in at its yield, in a thread and in an event loop alike."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import CancelledError

import pytest

from nimbed._promise import Promise
from nimbed._serving.waiting import ends_at, run_awaiting, run_waiting
from nimbed.errors import EncodeTimeoutError, InputError

DRIVERS = {"a thread": lambda steps: run_waiting(steps, None), "a loop": lambda steps: asyncio.run(run_awaiting(steps))}
driven = pytest.mark.parametrize("drive", DRIVERS.values(), ids=list(DRIVERS))


def done(result: object = None, error: BaseException | None = None) -> Promise:
    promise: Promise = Promise()
    if error is None:
        promise.set_result(result)
    else:
        promise.set_exception(error)
    return promise


@driven
def test_results_are_sent_and_the_last_is_returned(drive):
    later: Promise[int] = Promise()

    def steps():
        first = yield done(1)
        second = yield later
        return [first, second]

    threading.Timer(0.05, later.set_result, [2]).start()
    assert drive(steps()) == [1, 2]


@driven
def test_failures_are_thrown_in_and_may_be_caught(drive):
    def steps():
        found = []
        for error in (ValueError("no"), CancelledError(), KeyboardInterrupt("another's")):
            try:
                yield done(error=error)
            except BaseException as err:  # noqa: BLE001 (the test looks at it)
                found.append(err is error)
        yield done(error=OSError("the last"))
        found.append("not reached")

    with pytest.raises(OSError, match="the last"):
        drive(steps())


@driven
def test_what_is_caught_is_the_promises_own_error(drive):
    error = ValueError("no")

    def steps():
        try:
            yield done(error=error)
        except ValueError as err:
            return err

    assert drive(steps()) is error


@driven
def test_steps_without_a_promise(drive):
    def steps():
        return 5
        yield

    assert drive(steps()) == 5


def test_a_time_limit_ends_the_wait_but_not_the_promise():
    promise: Promise[int] = Promise()

    def steps():
        return (yield promise)

    with pytest.raises(EncodeTimeoutError, match="timeout_s"):
        run_waiting(steps(), time.monotonic() + 0.02)
    assert not promise.done()


async def test_a_cancelled_task_does_not_cancel_the_promise():
    promise: Promise[int] = Promise()

    def steps():
        return (yield promise)

    task = asyncio.create_task(run_awaiting(steps()))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not promise.done()
    promise.set_result(1)


@pytest.mark.parametrize("timeout_s", [-1, float("nan"), "1", True])
def test_a_time_limit_that_is_no_number_of_seconds(timeout_s):
    with pytest.raises(InputError, match="timeout_s"):
        ends_at(timeout_s)


def test_no_time_limit():
    assert ends_at(None) is None
    assert ends_at(float("inf")) is None
    assert time.monotonic() < ends_at(10) <= time.monotonic() + 10
