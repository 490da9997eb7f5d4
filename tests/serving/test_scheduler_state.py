"""What waits and what runs, in any order of events: no threads here."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tests.support.interrupting import NIMBED, Interrupt

from nimbed._serving.queues import Batch, Request
from nimbed._serving.scheduler_state import SchedulerState
from nimbed._types import TokenBatch
from nimbed.backends.shapes import ShapePolicy
from nimbed.errors import ClosedError

WORKERS = {0: "query", 1: "document", 2: "document"}
CALLERS = (10, 11)
FILES = [file for file in NIMBED if file.endswith(("queues.py", "scheduler_state.py"))]
roles = st.sampled_from(["query", "document"])
rows = st.lists(st.integers(1, 5), max_size=7)


class Stopped(BaseException):
    """What nobody expects on a thread."""


def request_of(lengths: list[int]) -> Request:
    return Request([np.zeros(n, np.int32) for n in lengths], np.empty((len(lengths), 2), np.float32))


class Events(RuleBasedStateMachine):
    """Workers 0 to 2 and two callers, as the scheduler drives them; the model is who has run what."""

    @initialize(budgets=st.tuples(st.integers(1, 40), st.integers(1, 40)), lent=st.integers(1, 40))
    def begin(self, budgets, lent):
        self.lent = lent
        shapes = {role: ShapePolicy(token_budget=n) for role, n in zip(("query", "document"), budgets, strict=True)}
        self.state = SchedulerState(shapes, longest_lent=lent)
        self.requests: list[tuple[Request, str]] = []
        self.ran: set[tuple[int, int]] = set()
        self.has_query_session: set[int] = set()

    # What callers do

    @rule(lengths=rows, role=roles)
    def submit(self, lengths, role):
        request = request_of(lengths)
        if self.state.is_closed:
            with pytest.raises(ClosedError):
                self.state.submitted(request, role)
            return
        self.requests.append((request, role))
        self.state.submitted(request, role)

    @rule(lengths=rows.filter(bool), role=roles, caller=st.sampled_from(CALLERS))
    def submit_inline(self, lengths, role, caller):
        if caller in self.state.running:
            return
        request = request_of(lengths)
        batch = Batch(role=role, rows=[(request, n) for n in range(len(lengths))])
        waiting = self.unfinished("query") | (self.unfinished("document") if role == "document" else set())
        if self.state.batch_taken(caller, batch):
            assert not self.state.is_closed
            assert not waiting - self.running_rows()
            assert role == "query" or sum(lengths) <= self.lent
            self.requests.append((request, role))
            self.takes(caller, batch, query_session=True)

    @rule(caller=st.sampled_from(CALLERS))
    def inline_done(self, caller):
        self.done(caller)

    @rule()
    def all_done(self):
        for thread in (*WORKERS, *CALLERS):
            self.done(thread)

    @rule(data=st.data())
    def cancel(self, data):
        if self.requests:
            data.draw(st.sampled_from(self.requests))[0].promise.cancel()

    @rule(n=st.integers(1, 3))
    def warm_up(self, n):
        self.state.warm_up.extend(TokenBatch.from_sequences([np.zeros(1, np.int32)]) for _ in range(n))

    @rule()
    def close(self):
        left = self.state.closed()
        assert len(left) == len(set(map(id, left)))
        self.fail(left)

    # What workers do

    @rule(worker=st.sampled_from(sorted(WORKERS)))
    def next_batch(self, worker):
        self.done(worker)
        role, had_work = WORKERS[worker], self.state.has_work(WORKERS[worker])
        waiting = {of: self.unfinished(of) - self.running_rows() for of in ("query", "document")}
        turn = self.state.session_idle(worker, role)
        if turn is None:
            may = role == "query" and self.state.query_thread is None and not self.state.is_closed
            assert not (may and (waiting["query"] or self.state.warm_up))
            return
        assert had_work
        assert not self.state.is_closed
        if isinstance(turn, TokenBatch):
            assert role == "query"
            assert not waiting["query"]
            self.has_query_session.add(worker)
        else:
            assert turn.role == "document" or role == "query"
            assert turn.role == "query" or role == "document" or not waiting["query"]  # queries at each boundary
            assert role == turn.role or turn.tokens <= self.lent
            self.takes(worker, turn, query_session=role == "query")

    @rule(worker=st.sampled_from(sorted(WORKERS)), at=st.integers(1, 60))
    def next_batch_stopped(self, worker, at):
        """An exception at any place: each call can still be failed, and the rest goes on."""
        self.done(worker)
        interrupt = Interrupt(at, Stopped, files=FILES)
        with suppress(Stopped), interrupt.within():
            self.state.session_idle(worker, WORKERS[worker])
        if interrupt.came:
            self.nothing_is_lost()
            self.fail(self.state.drained())
        if (batch := self.state.running.get(worker)) is not None:
            self.fail([request for request, _ in batch.rows])
        self.state.batch_done(worker)

    # The model

    def takes(self, thread: int, batch: Batch, *, query_session: bool) -> None:
        taken = {(id(request), index) for request, index in batch.rows}
        assert len(taken) == len(batch.rows)
        assert not taken & self.ran  # each row once
        assert not any(request.done for request, _ in batch.rows)
        self.ran |= taken
        assert self.state.running[thread] is batch
        if query_session:
            self.has_query_session.add(thread)

    def done(self, thread: int) -> None:
        batch = self.state.running.get(thread)
        assert self.state.batch_done(thread) == (batch is not None)
        assert not self.state.batch_done(thread)
        self.has_query_session.discard(thread)
        for request, index in () if batch is None else batch.rows:
            request.put(index, np.zeros(2, np.float32))

    def fail(self, requests) -> None:
        for request in requests:
            request.fail(RuntimeError("failed"))

    def unfinished(self, role: str) -> set[tuple[int, int]]:
        """Rows that somebody waits for and that have not been run."""
        rows = {(id(r), n) for r, of in self.requests if of == role and not r.done for n in range(len(r.sequences))}
        return rows - self.ran

    def running_rows(self) -> set[tuple[int, int]]:
        return {(id(request), n) for batch in self.state.running.values() for request, n in batch.rows}

    @invariant()
    def one_thread_at_most_runs_the_queries_session(self):
        assert self.has_query_session == ({self.state.query_thread} - {None})

    @invariant()
    def every_row_waits_or_runs_or_was_run(self):
        for role, queue in self.state.queues.items():
            assert len(self.unfinished(role)) <= queue.depth
            assert not self.state.is_closed or not queue.depth

    def nothing_is_lost(self) -> None:
        """Every call that is not done can be failed: it waits, or a thread runs rows of it."""
        drained = self.state.drained()
        known = {id(request) for request in drained} | {row[0] for row in self.running_rows()}
        assert all(id(r) in known for r, _ in self.requests if r.sequences and not r.done)
        self.fail(drained)

    def teardown(self):
        """Whatever happened, what waits is run by the workers, each row once, and then all is done."""
        if not hasattr(self, "state"):
            return
        for caller in CALLERS:
            self.done(caller)
        for _ in range(1000):
            for worker in WORKERS:
                self.next_batch(worker)
            work = not self.state.is_closed and any(map(self.state.has_work, ("query", "document")))
            if not work and not self.state.running:
                break
        assert all(request.done for request, _ in self.requests if request.sequences)


TestEvents = Events.TestCase
TestEvents.settings = settings(deadline=None, max_examples=150, stateful_step_count=40)


@pytest.mark.parametrize("worker", WORKERS)
@pytest.mark.parametrize("budget", [4, 100])
@pytest.mark.parametrize("submitted", [["query"], ["document"], ["query", "document"], ["document", "document"]])
def test_an_exception_at_any_place_loses_nothing(worker, budget, submitted):
    for at in range(1, 1000):
        shapes = ShapePolicy(token_budget=budget)
        state = SchedulerState({"query": shapes, "document": shapes})
        requests = [request_of([1, 3, 2, 4]) for _ in submitted]
        for request, role in zip(requests, submitted, strict=True):
            state.submitted(request, role)
        interrupt = Interrupt(at, Stopped, files=FILES)
        with suppress(Stopped), interrupt.within():
            state.session_idle(worker, WORKERS[worker])
        if not interrupt.came:
            break
        known = [*state.drained(), *(request for batch in state.running.values() for request, _ in batch.rows)]
        assert {id(request) for request in known} == {id(request) for request in requests}, interrupt.place
        state.batch_done(worker)
        assert not state.running
        assert state.query_thread is None
    assert at > 3


def test_who_gets_the_documents():
    """The queries' session, with all threads, where they are one batch and nothing else runs or waits."""
    state = SchedulerState({"query": ShapePolicy(token_budget=4), "document": ShapePolicy(token_budget=4)})
    state.submitted(request_of([2, 2]), "document")
    assert state.has_work("query")
    assert state.session_idle(1, "document") is None
    assert state.session_idle(0, "query").role == "document"
    state.submitted(request_of([2, 2]), "document")
    assert not state.has_work("query")
    assert state.session_idle(1, "document") is not None  # the other runs
    state.batch_done(0)
    for _ in range(2):
        state.submitted(request_of([2, 2]), "document")
    state.batch_done(1)
    assert state.session_idle(0, "query") is None  # two batches are divided among the bulk sessions
    assert state.session_idle(1, "document") is not None


def test_a_finished_turn_is_its_own_requests_alone():
    """A call within a call (a hook that embeds) does not end what the thread runs beneath it."""
    state = SchedulerState({"query": ShapePolicy(token_budget=4), "document": ShapePolicy(token_budget=4)})
    outer, inner = request_of([1]), request_of([1])
    assert state.batch_taken(1, Batch(role="query", rows=[(outer, 0)]))
    assert not state.batch_done(1, of=inner)
    assert state.query_thread == 1
    assert state.batch_done(1, of=outer)
    assert state.query_thread is None
    assert not state.running


def test_a_thread_runs_one_batch_at_a_time():
    """A hook that embeds on a bulk session's thread does not take the queries' session."""
    state = SchedulerState({"query": ShapePolicy(token_budget=4), "document": ShapePolicy(token_budget=4)})
    for _ in range(2):
        state.submitted(request_of([4]), "document")
    batch = state.session_idle(1, "document")
    assert isinstance(batch, Batch)
    nested = Batch(role="query", rows=[(request_of([1]), 0)])
    assert not state.batch_taken(1, nested)
    assert state.batch_taken(2, nested)
    assert state.running[1] is batch


def test_a_queue_that_is_drained_while_a_batch_leaves_it(monkeypatch):
    """The garbage collector may close an encoder on the thread that holds the lock."""
    state = SchedulerState({"query": ShapePolicy(token_budget=4), "document": ShapePolicy(token_budget=4)})
    state.submitted(request_of([1]), "query")
    queue = state.queues["query"]
    remove = queue.remove_first
    monkeypatch.setattr(queue, "remove_first", lambda: (state.closed(), remove()))
    assert isinstance(state.session_idle(0, "query"), Batch)
    assert state.session_idle(1, "query") is None


def test_a_long_document_is_not_lent_the_queries_session():
    """A query that comes meanwhile would wait for all of it."""
    shapes = {"query": ShapePolicy(token_budget=4), "document": ShapePolicy(token_budget=4)}
    state = SchedulerState(shapes, longest_lent=4)
    long, short = (Batch(role="document", rows=[(request_of([n]), 0)]) for n in (5, 4))
    assert not state.batch_taken(2, long)
    state.submitted(long.rows[0][0], "document")
    assert state.session_idle(0, "query") is None
    assert state.session_idle(1, "document") is not None
    state.batch_done(1)
    assert state.batch_taken(2, short)
    asked = Batch(role="query", rows=[(request_of([9]), 0)])
    state.batch_done(2)
    assert state.batch_taken(2, asked)
