"""A place that failed is left alone, longer each time, and tried again by one caller."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimbed._cache.breaker import Breaker


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def breaker(clock):
    return Breaker(clock, jitter=lambda: 0.5)


def test_one_caller_probes_while_the_others_go_on():
    now = [0.0]
    breaker = Breaker(clock=lambda: now[0], jitter=lambda: 0.5)
    assert breaker.allows()
    breaker.failed()
    assert not breaker.allows()
    now[0] = 1.5
    assert [breaker.allows() for _ in range(3)] == [True, False, False]
    breaker.worked()
    assert [breaker.allows() for _ in range(3)] == [True, True, True]


def test_a_new_one_is_closed(breaker):
    assert not breaker.open
    assert breaker.allows()


def test_what_several_callers_suffer_from_at_once_is_one_failure(breaker, clock):
    assert [breaker.failed() for _ in range(3)] == [True, False, False]
    clock.now += 1.01
    assert not breaker.open


@given(st.floats(0, 1), st.integers(1, 30))
def test_each_failure_doubles_the_pause_up_to_a_minute(jitter, failures):
    clock = Clock()
    breaker = Breaker(clock, jitter=lambda: jitter)
    for number in range(failures):
        assert breaker.allows()
        assert breaker.failed()
        pause = min(60, 2.0**number) * (0.75 + jitter / 2)
        clock.now += pause - 0.001
        assert breaker.open
        assert not breaker.allows()
        clock.now += 0.002
        assert not breaker.open


def test_a_probe_that_fails_is_news_though_the_others_are_kept_out(breaker, clock):
    breaker.failed()
    clock.now += 1.5
    assert breaker.allows()
    assert breaker.open  # for the others
    assert breaker.failed()
    assert not breaker.failed()
    clock.now += 1.9
    assert not breaker.allows()
    clock.now += 0.2
    assert breaker.allows()


def test_a_probe_that_never_ends_keeps_the_others_out_for_a_second(breaker, clock):
    breaker.failed()
    clock.now += 1.5
    assert [breaker.allows(), breaker.allows()] == [True, False]
    clock.now += 1.01
    assert breaker.allows()


def test_success_forgets_all_failures(breaker, clock):
    for _ in range(5):
        breaker.failed()
        clock.now += 100
        breaker.allows()
    breaker.worked()
    assert not breaker.open
    assert breaker.allows()
    assert breaker.failed()
    clock.now += 1.01
    assert breaker.allows()  # the first pause again
