"""Admission: order, limit, cancelling, closing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimbed._serving.admission_limit import AdmissionLimit, Ticket


def asked(limit: AdmissionLimit, amount: int) -> Ticket:
    """A ticket that has asked for admission."""
    ticket = Ticket(amount)
    admitted = limit.acquire(ticket)
    assert admitted is (None if ticket.counted else ticket.admitted)
    return ticket


def test_at_once_until_it_is_full():
    limit = AdmissionLimit(10)
    first, second = asked(limit, 6), asked(limit, 4)
    assert first.counted
    assert second.counted
    third = asked(limit, 1)
    assert not third.admitted.done()
    assert limit.waiting == 1
    limit.release(first)
    assert third.admitted.done()
    assert third.counted


def test_first_come_first_served_though_a_smaller_one_would_fit():
    limit = AdmissionLimit(10)
    first, large, small = (asked(limit, n) for n in (8, 9, 1))
    assert not small.admitted.done()
    limit.release(first)
    assert large.admitted.done()
    assert small.admitted.done()


def test_what_is_larger_than_the_limit_is_admitted_alone():
    limit = AdmissionLimit(10)
    first, second = asked(limit, 100), asked(limit, 1)
    assert first.counted
    limit.release(first)
    assert second.admitted.done()


def test_what_was_cancelled_is_passed_over():
    limit = AdmissionLimit(1)
    first, gone, next_one = (asked(limit, 1) for _ in range(3))
    limit.release(gone)
    limit.release(first)
    assert next_one.admitted.done()
    assert not gone.counted


def test_releasing_twice_counts_once():
    limit = AdmissionLimit(2)
    first, second = asked(limit, 1), asked(limit, 1)
    for _ in range(2):
        limit.release(first)
    assert not limit.empty
    limit.release(second)
    assert limit.empty
    limit.release(Ticket(5))  # which never asked
    assert limit.empty


def test_close_fails_what_waits_and_what_comes():
    limit = AdmissionLimit(1)
    asked(limit, 1)
    waiting = asked(limit, 1)
    limit.close(RuntimeError("shut"))
    with pytest.raises(RuntimeError, match="shut"):
        waiting.admitted.result(0)
    with pytest.raises(RuntimeError, match="shut"):
        limit.acquire(Ticket(1))


@given(amounts=st.lists(st.integers(0, 15), max_size=40), order=st.randoms())
def test_never_over_the_limit_and_all_are_admitted(amounts, order):
    limit = AdmissionLimit(10)
    tickets = [asked(limit, amount) for amount in amounts]
    within = [n for n, ticket in enumerate(tickets) if ticket.counted]
    come = set(within)
    while within:
        total = sum(amounts[n] for n in within)
        assert total <= 10 or len([n for n in within if amounts[n]]) == 1
        limit.release(tickets[within.pop(order.randrange(len(within)))])
        new = [n for n, ticket in enumerate(tickets) if ticket.counted and n not in come]
        assert not new or new == list(range(min(new), max(new) + 1))
        within += new
        come |= set(new)
    assert len(come) == len(amounts)
