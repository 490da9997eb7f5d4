"""Requests in, merged batches out, against a model of what a queue may do."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nimbed._serving.queues import Batch, Request, RequestQueue
from nimbed.backends.shapes import ShapePolicy


def request(*lengths: int, **more) -> Request:
    return Request([np.zeros(n, np.int32) for n in lengths], np.zeros((len(lengths), 1), np.float32), **more)


def queue_of(budget: int = 8, *, ahead: bool = True) -> RequestQueue:
    return RequestQueue("document", ShapePolicy(token_budget=budget), ahead=ahead)


def take(waiting: RequestQueue) -> Batch | None:
    """The first batch, which leaves the queue."""
    if (batch := waiting.first()) is not None:
        assert waiting.first().rows == batch.rows
        waiting.remove_first()
    return batch


def taken(waiting: RequestQueue) -> list[Batch]:
    batches = []
    while (batch := take(waiting)) is not None:
        batches.append(batch)
    return batches


# Requests


def test_the_last_vector_keeps_the_promise():
    one = request(1, 1, 1, finish=lambda vectors: vectors.ravel().tolist())
    for index in (2, 0):
        one.put(index, np.float32([index]))
        assert not one.done
    one.put(1, np.float32([1]))
    assert one.promise.result(0) == [0, 1, 2]
    assert one.done


def test_what_cannot_be_finished_fails_its_own_caller():
    def finish(_):
        raise ValueError("cannot be finished")

    one = request(1, finish=finish)
    one.put(0, np.float32([1]))
    assert isinstance(one.promise.exception(), ValueError)


def test_the_first_outcome_counts():
    cancelled, failed = request(1), request(1)
    cancelled.promise.cancel()
    cancelled.put(0, np.float32([1]))
    cancelled.fail(ValueError("late"))
    assert cancelled.promise.cancelled()
    failed.fail(ValueError("first"))
    failed.put(0, np.float32([1]))
    assert str(failed.promise.exception()) == "first"


def test_what_was_cancelled_is_not_finished():
    finished = []
    one = request(1, finish=finished.append)
    one.promise.cancel()
    one.put(0, np.float32([1]))
    assert finished == []


# Batches


def test_a_batch_is_divided_by_rows_and_by_callers():
    one, two = request(1, 2, 3), request(4, 5)
    batch = Batch(role="query", rows=[(one, 0), (two, 0), (one, 2), (two, 1), (one, 1)])
    assert [len(sequence) for sequence in batch.sequences] == [1, 4, 3, 5, 2]
    assert [half.rows for half in batch.halves()] == [batch.rows[:2], batch.rows[2:]]
    assert [part.rows for part in batch.by_request()] == [[(one, 0), (one, 2), (one, 1)], [(two, 0), (two, 1)]]
    assert all(part.role == "query" for part in (*batch.halves(), *batch.by_request()))
    assert Batch(role="query", rows=[(one, 0)]).halves() == [Batch(role="query", rows=[(one, 0)])]


def test_rows_that_nobody_waits_for_are_left_out():
    one, two = request(1), request(1)
    batch = Batch(role="query", rows=[(one, 0), (two, 0)])
    assert batch.pending() is batch
    one.promise.cancel()
    assert batch.pending().rows == [(two, 0)]


def test_a_batch_fails_for_each_of_its_callers():
    one, two, other = request(1, 1), request(1), request(1)
    error = ValueError("all of them")
    Batch(role="query", rows=[(one, 0), (two, 0), (one, 1)]).fail(error)
    assert (one.promise.exception(), two.promise.exception(), other.done) == (error, error, False)


# Queues

callers = st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=12), max_size=8)


@given(callers, st.integers(1, 30), st.booleans(), st.sets(st.integers(0, 7)))
@settings(deadline=None)
def test_every_row_that_somebody_waits_for_is_taken_once_within_the_budget(lengths, budget, ahead, cancelled):
    waiting, requests = queue_of(budget, ahead=ahead), [request(*some) for some in lengths]
    for one in requests:
        waiting.put(one)
    assert waiting.depth == sum(map(len, lengths))
    for number in cancelled & set(range(len(requests))):
        requests[number].promise.cancel()
    batches = taken(waiting)
    rows = [(id(one), index) for batch in batches for one, index in batch.rows]
    wanted = [(id(r), i) for n, r in enumerate(requests) if n not in cancelled for i in range(len(r.sequences))]
    assert sorted(rows) == sorted(wanted)
    for batch in batches:
        sizes = [len(sequence) for sequence in batch.sequences]
        assert len(sizes) == 1 or max(sizes) * len(sizes) <= budget
    assert not waiting
    assert waiting.depth == 0


@given(callers, st.integers(1, 30), st.booleans(), st.integers(0, 3))
@settings(deadline=None)
def test_depth_counts_what_is_left_and_draining_gives_each_caller_once(lengths, budget, ahead, takes):
    waiting, requests = queue_of(budget, ahead=ahead), [request(*some) for some in lengths]
    for one in requests:
        waiting.put(one)
    batches = [batch for _ in range(takes) if (batch := take(waiting)) is not None]
    gone = [(id(one), index) for batch in batches for one, index in batch.rows]
    assert waiting.depth == sum(map(len, lengths)) - len(gone)
    for one in requests[::3]:
        one.promise.cancel()
    cancelled = set(map(id, requests[::3]))
    kept = [(id(one), i) for one in requests if id(one) not in cancelled for i in range(len(one.sequences))]
    assert waiting.depth == len(set(kept) - set(gone))
    partly = {id(r) for r in requests if any((id(r), i) not in gone for i in range(len(r.sequences)))}
    drained = waiting.drain()
    assert len(drained) == len({id(one) for one in drained})
    assert {id(one) for one in drained} == partly
    assert (bool(waiting), waiting.depth, take(waiting)) == (False, 0, None)


def test_the_batch_is_made_around_what_has_waited_longest():
    waiting = queue_of(8, ahead=False)
    first, *others = (request(n) for n in (2, 8, 8, 2, 2, 2))
    for one in (first, *others):
        waiting.put(one)
    batch = take(waiting)
    assert first in [one for one, _ in batch.rows]
    late = request(8)
    waiting.put(late)
    assert taken(waiting)[-1].rows == [(late, 0)]


def test_what_comes_meanwhile_fills_a_batch_that_is_not_planned_ahead():
    waiting = queue_of(8, ahead=False)
    long, short = request(8), request(2)
    waiting.put(long)
    waiting.put(short)
    assert take(waiting).rows == [(long, 0)]
    late = request(2)
    waiting.put(late)
    assert take(waiting).rows == [(short, 0), (late, 0)]


def test_who_gave_up_takes_no_room_in_a_batch():
    waiting, gone = queue_of(8, ahead=False), [request(2), request(2), request(2)]
    gone[0].promise.cancel()
    for one in (gone[0], request(8), gone[1], gone[2]):
        waiting.put(one)
    assert len(take(waiting).rows) == 1
    gone[1].promise.cancel()  # it was seen already, and is in no batch yet
    late = [request(2) for _ in range(3)]
    for one in late:
        waiting.put(one)
    assert [one for one, _ in take(waiting).rows] == [gone[2], *late]


def test_who_gave_up_after_the_planning_is_taken_out_of_the_batch():
    waiting = queue_of(8)
    one, two = request(4), request(4)
    waiting.put(one)
    waiting.put(two)
    assert waiting.is_one_batch
    one.promise.cancel()
    assert take(waiting).rows == [(two, 0)]
    two.promise.cancel()
    assert take(waiting) is None


def test_rows_of_like_length_meet_where_it_is_planned_ahead():
    waiting = queue_of(8)
    one, two = request(8, 2, 8, 2), request(2, 8, 2)
    waiting.put(one)
    waiting.put(two)
    assert [[len(s) for s in batch.sequences] for batch in taken(waiting)] == [[8], [8], [8], [2, 2, 2, 2]]


def test_a_long_request_lets_a_later_one_into_its_window():
    waiting = queue_of(4)
    long, late = request(*[4] * 2000), request(4)
    waiting.put(long)
    waiting.put(late)
    before = 0
    while late not in [one for one, _ in take(waiting).rows]:
        before += 1
    assert waiting.depth == 2001 - before - 1
    assert before == 512  # its share of a window, and not all that it has


@pytest.mark.parametrize("ahead", [True, False])
@pytest.mark.parametrize(("lengths", "is_one"), [([], False), ([4, 4], True), ([4, 4, 4], False), ([9], True)])
def test_whether_all_that_waits_runs_together(lengths, is_one, ahead):
    waiting = queue_of(8, ahead=ahead)
    if lengths:
        waiting.put(request(*lengths))
    assert waiting.is_one_batch is is_one
    assert waiting.depth == len(lengths)


def test_who_comes_after_the_look_is_seen_by_the_next():
    waiting = queue_of(8)
    waiting.put(request(4))
    assert waiting.is_one_batch
    waiting.put(request(4))
    assert not waiting.is_one_batch
