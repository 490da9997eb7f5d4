"""A promise has one outcome, whoever brings it, and everybody hears of it."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimbed._promise import Promise

OUTCOMES = {
    "result": lambda promise, number: promise.set_result(number),
    "error": lambda promise, number: promise.set_exception(ValueError(number)),
    "cancel": lambda promise, _: promise.cancel(),
}


def outcome(promise: Promise[int]) -> object:
    try:
        return promise.result(0)
    except BaseException as err:  # noqa: BLE001 (an outcome too)
        return type(err), err.args


@given(st.lists(st.sampled_from(sorted(OUTCOMES)), min_size=1, max_size=5))
def test_the_first_outcome_counts_and_is_told_once(kinds):
    promise: Promise[int] = Promise()
    told = []
    promise.add_done_callback(told.append)
    assert not promise.done()
    for number, kind in enumerate(kinds):
        OUTCOMES[kind](promise, number)
        assert promise.done()
    assert outcome(promise) == {"result": 0, "error": (ValueError, (0,)), "cancel": (CancelledError, ())}[kinds[0]]
    assert promise.cancelled() is (kinds[0] == "cancel")
    assert told == [promise]


def test_none_is_a_result():
    promise: Promise[None] = Promise()
    promise.set_result(None)
    assert promise.done()
    assert promise.result(0) is None
    assert promise.exception() is None


def test_giving_up_says_whether_it_is_given_up():
    open_one, kept = Promise(), Promise()
    kept.set_result(1)
    assert (open_one.cancel(), open_one.cancel(), kept.cancel()) == (True, True, False)
    assert isinstance(open_one.exception(), CancelledError)


def test_who_waits_gets_the_result_of_another_thread():
    promise: Promise[int] = Promise()
    threading.Timer(0.01, promise.set_result, [7]).start()
    assert promise.result(20) == 7


def test_time_is_over_without_an_outcome():
    promise: Promise[int] = Promise()
    assert promise.exception() is None
    assert not promise.wait(0.001)
    with pytest.raises(TimeoutError):
        promise.result(0.001)
    promise.set_result(3)  # a wait that ended harms nobody
    assert promise.wait(0)
    assert promise.result() == 3


def test_who_comes_late_is_called_at_once():
    promise: Promise[int] = Promise()
    promise.set_result(1)
    told = []
    promise.add_done_callback(told.append)
    assert told == [promise]


def test_a_callback_that_fails_keeps_no_other_from_hearing(caplog):
    promise: Promise[int] = Promise()
    told = []
    promise.add_done_callback(lambda _: 1 / 0)
    promise.add_done_callback(told.append)
    promise.set_result(1)
    assert told == [promise]
    assert "ZeroDivisionError" in caplog.text


def test_whom_an_interrupt_kept_from_hearing_is_told_all_the_same():
    promise: Promise[int] = Promise()
    told, interrupts = [], [KeyboardInterrupt]

    def interrupted(_):
        if interrupts:
            raise interrupts.pop()

    promise.add_done_callback(interrupted)
    promise.add_done_callback(told.append)
    with pytest.raises(KeyboardInterrupt):
        promise.set_result(1)
    assert told == [promise]
    assert promise.result(0) == 1
