"""The bounded house: order, limit, giving up, closing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimbed._serving.admission_limit import Gate, Ticket


def entered(gate: Gate, amount: int) -> Ticket:
    """A ticket that has come to the gate."""
    ticket = Ticket(amount)
    place = gate.enter(ticket)
    assert place is (None if ticket.within else ticket.place)
    return ticket


def test_at_once_until_it_is_full():
    gate = Gate(10)
    first, second = entered(gate, 6), entered(gate, 4)
    assert first.within
    assert second.within
    third = entered(gate, 1)
    assert not third.place.done()
    assert gate.waiting == 1
    gate.leave(first)
    assert third.place.done()
    assert third.within


def test_first_come_first_served_though_a_smaller_one_would_fit():
    gate = Gate(10)
    first, large, small = (entered(gate, n) for n in (8, 9, 1))
    assert not small.place.done()
    gate.leave(first)
    assert large.place.done()
    assert small.place.done()


def test_larger_than_the_house_comes_in_alone():
    gate = Gate(10)
    first, second = entered(gate, 100), entered(gate, 1)
    assert first.within
    gate.leave(first)
    assert second.place.done()


def test_who_gave_up_is_passed_over():
    gate = Gate(1)
    first, gone, next_one = (entered(gate, 1) for _ in range(3))
    gate.leave(gone)
    gate.leave(first)
    assert next_one.place.done()
    assert not gone.within


def test_leaving_twice_counts_once():
    gate = Gate(2)
    first, second = entered(gate, 1), entered(gate, 1)
    for _ in range(2):
        gate.leave(first)
    assert not gate.empty
    gate.leave(second)
    assert gate.empty
    gate.leave(Ticket(5))  # which never came
    assert gate.empty


def test_close_fails_those_who_wait_and_those_who_come():
    gate = Gate(1)
    entered(gate, 1)
    waiting = entered(gate, 1)
    gate.close(RuntimeError("shut"))
    with pytest.raises(RuntimeError, match="shut"):
        waiting.place.result(0)
    with pytest.raises(RuntimeError, match="shut"):
        gate.enter(Ticket(1))


@given(amounts=st.lists(st.integers(0, 15), max_size=40), order=st.randoms())
def test_never_over_the_limit_and_all_come_in(amounts, order):
    gate = Gate(10)
    tickets = [entered(gate, amount) for amount in amounts]
    within = [n for n, ticket in enumerate(tickets) if ticket.within]
    come = set(within)
    while within:
        total = sum(amounts[n] for n in within)
        assert total <= 10 or len([n for n in within if amounts[n]]) == 1
        gate.leave(tickets[within.pop(order.randrange(len(within)))])
        new = [n for n, ticket in enumerate(tickets) if ticket.within and n not in come]
        assert not new or new == list(range(min(new), max(new) + 1))
        within += new
        come |= set(new)
    assert len(come) == len(amounts)
