"""The bounded house: order, limit, giving up, closing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimbed._gate import Gate


def test_at_once_until_it_is_full():
    gate = Gate(10)
    assert gate.enter(6) is None
    assert gate.enter(4) is None
    place = gate.enter(1)
    assert place is not None
    assert not place.done()
    assert gate.waiting == 1
    gate.leave(6)
    assert place.done()


def test_first_come_first_served_though_a_smaller_one_would_fit():
    gate = Gate(10)
    gate.enter(8)
    large, small = gate.enter(9), gate.enter(1)
    assert not small.done()
    gate.leave(8)
    assert large.done()
    assert small.done()


def test_larger_than_the_house_comes_in_alone():
    gate = Gate(10)
    assert gate.enter(100) is None
    place = gate.enter(1)
    gate.leave(100)
    assert place.done()


def test_who_gave_up_is_passed_over():
    gate = Gate(1)
    gate.enter(1)
    gone, next_one = gate.enter(1), gate.enter(1)
    assert gone.cancel()
    gate.leave(1)
    assert next_one.done()


def test_close_fails_those_who_wait_and_those_who_come():
    gate = Gate(1)
    gate.enter(1)
    place = gate.enter(1)
    gate.close(RuntimeError("shut"))
    with pytest.raises(RuntimeError, match="shut"):
        place.result(0)
    with pytest.raises(RuntimeError, match="shut"):
        gate.enter(1)


@given(amounts=st.lists(st.integers(0, 15), max_size=40), order=st.randoms())
def test_never_over_the_limit_and_all_come_in(amounts, order):
    gate = Gate(10)
    places = [(amount, gate.enter(amount)) for amount in amounts]
    within = [n for n, (_, place) in enumerate(places) if place is None]
    entered = set(within)
    while within:
        total = sum(places[n][0] for n in within)
        assert total <= 10 or len([n for n in within if places[n][0]]) == 1
        gate.leave(places[within.pop(order.randrange(len(within)))][0])
        new = [n for n, (_, place) in enumerate(places) if place is not None and place.done() and n not in entered]
        assert not new or new == list(range(min(new), max(new) + 1))
        within += new
        entered |= set(new)
    assert len(entered) == len(amounts)
