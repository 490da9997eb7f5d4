"""One worker before the engine: order, priority, failure, cancellation and the end."""

from __future__ import annotations

import threading
import time
from concurrent.futures import CancelledError

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nimbed._serving.scheduler import Scheduler
from nimbed.backends.protocol import Bulk
from nimbed.backends.shapes import ShapePolicy
from nimbed.errors import BackendError, ClosedError, OutOfMemoryError

WAIT_S = 20
POISON = 666


class Engine:
    """A session whose vector of a sequence is (its first id, its length); it can be held before a batch."""

    any_thread = True

    def expect(self):
        pass

    def __init__(self) -> None:
        self.log: list[list[int]] = []
        self.ran_on: list[int] = []
        self.reached = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()

    def hold(self) -> None:
        self.reached.clear()
        self.go_on.clear()

    def run(self, batch):
        self.reached.set()
        assert self.go_on.wait(WAIT_S)
        firsts = [int(batch.ids[start]) for start in batch.offsets[:-1]]
        self.log.append(firsts)
        self.ran_on.append(threading.get_ident())
        if POISON in firsts:
            raise BackendError("poisoned")
        return np.array([[f, n] for f, n in zip(firsts, batch.lengths, strict=True)], np.float32).reshape(-1, 2)


class Running:
    """A scheduler over an engine for queries and one or more for bulk, with what it reported of batches."""

    def __init__(self, token_budget: int = 4, sessions: int = 1) -> None:
        self.engine = Engine()
        self.bulk = [Engine() for _ in range(sessions)]
        self.batches: list[int] = []
        self._budget = token_budget
        shapes = ShapePolicy(token_budget=token_budget)
        self.scheduler = Scheduler(
            self.engine,
            shapes,
            Bulk(sessions=self.bulk, shapes=shapes),
            2,
            on_batch=lambda record: self.batches.append(record.rows),
        )
        self.scheduler.start()

    def held(self):
        """Every worker is in the middle of a batch, until :meth:`go_on`; the query's future."""
        first = self.held_query()
        for engine in self.bulk:
            engine.hold()
        for _ in self.bulk:
            self.submit([1], "document", length=self._budget)  # no two of them make a batch
        assert all(engine.reached.wait(WAIT_S) for engine in self.bulk)
        return first

    def held_query(self):
        """Only the worker for queries is in the middle of a batch."""
        self.engine.hold()
        first = self.submit([1], "query")
        assert self.engine.reached.wait(WAIT_S)
        return first

    def go_on(self) -> None:
        for engine in (self.engine, *self.bulk):
            engine.go_on.set()

    def submit(self, firsts, role="document", length=1, *, inline=False):
        return self.scheduler.submit([np.full(length, f, np.int32) for f in firsts], role, inline=inline)

    @property
    def log(self) -> list[list[int]]:
        """What all sessions ran."""
        return [batch for engine in (self.engine, *self.bulk) for batch in engine.log]


@pytest.fixture
def running():
    made = Running()
    yield made
    made.go_on()
    made.scheduler.close()


def firsts_of(future) -> list[int]:
    return future.result(WAIT_S)[:, 0].astype(int).tolist()


def test_the_engine_does_not_stop_to_hand_vectors_over(running):
    first = running.held_query()
    slow, done = threading.Event(), threading.Event()

    def finish(vectors):
        slow.set()
        assert done.wait(WAIT_S)
        return vectors

    sequences = [np.full(4, f, np.int32) for f in (20, 21, 22)]  # a batch each
    held = running.scheduler.submit(sequences[:1], "query", finish=finish)
    others = [running.scheduler.submit([s], "query") for s in sequences[1:]]
    running.go_on()
    assert slow.wait(WAIT_S)
    for _ in range(WAIT_S * 1000):
        if len(running.engine.log) == 4:
            break
        time.sleep(0.001)
    assert len(running.engine.log) == 4  # both others ran, though the first caller's vectors are not with it yet
    assert not held.done()
    done.set()
    assert [firsts_of(f) for f in (first, held, *others)] == [[1], [20], [21], [22]]


def test_vectors_come_in_the_order_of_the_texts(running):
    sequences = [np.full(n, 10 + n, np.int32) for n in (1, 3, 2, 4, 1, 2)]
    vectors = running.scheduler.submit(sequences, "document").result(WAIT_S)
    assert vectors.tolist() == [[10 + len(s), len(s)] for s in sequences]
    assert vectors.dtype == np.float32
    assert sum(running.batches) == 6
    assert len(running.batches) > 1


@given(lengths=st.lists(st.integers(1, 9), max_size=40), budget=st.integers(1, 60))
@settings(deadline=None, max_examples=50)
def test_vectors_of_ragged_texts_come_in_their_order(lengths, budget):
    running = Running(budget)
    sequences = [np.full(n, i + 1, np.int32) for i, n in enumerate(lengths)]
    vectors = running.scheduler.submit(sequences, "query").result(WAIT_S)
    running.scheduler.close()
    assert vectors.tolist() == [[i + 1, n] for i, n in enumerate(lengths)]


def test_a_query_does_not_wait_for_bulk_work(running):
    running.bulk[0].hold()
    bulk = running.submit(range(20, 32))
    assert running.bulk[0].reached.wait(WAIT_S)
    assert firsts_of(running.submit([99], "query")) == [99]
    assert not bulk.done()
    running.go_on()
    assert firsts_of(bulk) == list(range(20, 32))
    assert running.engine.log[0] == [99]


def test_bulk_work_does_not_wait_for_queries(running):
    running.held_query()
    assert firsts_of(running.submit(range(20, 32))) == list(range(20, 32))
    assert firsts_of(running.submit([5])) == [5]


def test_a_lone_batch_of_documents_gets_all_threads(running):
    assert firsts_of(running.submit([5, 6])) == [5, 6]
    assert (running.engine.log, running.bulk[0].log) == ([[5, 6]], [])


def test_bulk_work_is_divided_among_the_sessions():
    running = Running(sessions=3)
    running.held()
    bulk = running.submit(range(20, 44))
    for engine in running.bulk[1:]:
        engine.go_on.set()
    wait_for(lambda: sum(len(engine.log) for engine in running.bulk) >= 2 + 5)  # all but one that is held
    assert not running.bulk[0].log
    running.go_on()
    assert firsts_of(bulk) == list(range(20, 44))
    running.scheduler.close()


def test_calls_of_one_kind_are_merged(running):
    running.held()
    futures = [running.submit([n], role) for n in (11, 12, 13) for role in ("document", "query")]
    running.go_on()
    assert all(future.wait(WAIT_S) for future in futures)
    assert [firsts_of(future) for future in futures] == [[n] for n in (11, 12, 13) for _ in "dq"]
    ran = [batch for batch in running.log[1:] if 11 in batch]  # by whichever session came first
    assert sorted(map(sorted, ran)) == [[11, 12, 13], [11, 12, 13]]


def test_merged_batches_keep_to_the_budget(running):
    running.held()
    futures = [running.submit([n], "query", length=2) for n in range(20, 27)]
    running.go_on()
    assert [firsts_of(future) for future in futures] == [[n] for n in range(20, 27)]
    assert [len(batch) for batch in running.engine.log[1:]] == [2, 2, 2, 1]


def test_the_query_that_waited_longest_is_in_the_next_batch(running):
    running.held()
    futures = [running.submit([n], "query", length) for n, length in ((11, 1), (12, 4), (13, 1), (14, 4))]
    running.go_on()
    assert all(future.wait(WAIT_S) for future in futures)
    assert running.engine.log[1:] == [[11, 13], [12], [14]]


def test_a_long_call_does_not_keep_the_others_out(running):
    running.held()
    long, short = running.submit(list(range(1000, 1000 + 3000))), running.submit([50])
    running.go_on()
    assert firsts_of(short) == [50]
    assert firsts_of(long) == list(range(1000, 1000 + 3000))
    at = next(n for n, batch in enumerate(running.bulk[0].log) if 50 in batch)
    assert at < 300 < len(running.bulk[0].log)


def test_an_error_belongs_to_its_own_call(running):
    running.held()
    before, bad, after = running.submit([2]), running.submit([POISON] * 12), running.submit([3])
    running.go_on()
    with pytest.raises(BackendError, match="poisoned"):
        bad.result(WAIT_S)
    assert (firsts_of(before), firsts_of(after)) == ([2], [3])
    assert isinstance(bad.exception(), BackendError)


def test_a_merged_batch_that_fails_fails_only_its_own_caller(running):
    running.held()
    calls = {n: running.submit([n], "query") for n in (2, POISON, 3)}
    running.go_on()
    assert (firsts_of(calls[2]), firsts_of(calls[3])) == ([2], [3])
    assert calls[POISON].wait(WAIT_S)
    assert isinstance(calls[POISON].exception(), BackendError)
    assert running.engine.log[1] == [2, POISON, 3]


def test_out_of_memory_splits_the_batch_and_tries_again(running):
    run = running.engine.run

    def small(batch):
        if len(batch) > 2:
            running.engine.log.append([-len(batch)])
            raise OutOfMemoryError("too much")
        return run(batch)

    running.engine.run = small
    assert firsts_of(running.submit([1, 2, 3, 4])) == [1, 2, 3, 4]
    assert running.engine.log == [[-4], [1, 2], [3, 4]]


def test_the_second_failure_for_memory_is_reported(running):
    tried = []

    def none(batch):
        tried.append(len(batch))
        raise MemoryError("none left")

    running.engine.run = none
    with pytest.raises(MemoryError, match="none left"):
        running.submit([1, 2, 3, 4]).result(WAIT_S)
    assert tried[:2] == [4, 2]
    del running.engine.run
    assert firsts_of(running.submit([2])) == [2]


def test_an_answer_of_the_wrong_shape_is_an_error_too(running):
    running.engine.run = lambda batch: np.zeros((len(batch), 3), np.float32)
    with pytest.raises(BackendError, match="shape"):
        running.submit([1]).result(WAIT_S)
    del running.engine.run
    assert firsts_of(running.submit([2])) == [2]


def test_cancelling_takes_out_what_has_not_started(running):
    running.held()
    gone, kept = running.submit(range(20, 32)), running.submit([3])
    assert gone.cancel()
    running.go_on()
    assert firsts_of(kept) == [3]
    assert not {n for batch in running.log for n in batch} & set(range(20, 32))
    with pytest.raises(CancelledError):
        gone.result(WAIT_S)


def test_cancelling_in_the_middle_stops_at_the_next_batch(running):
    running.bulk[0].hold()
    gone = running.submit(range(20, 32))
    assert running.bulk[0].reached.wait(WAIT_S)
    assert gone.cancel()
    running.go_on()
    assert firsts_of(running.submit([3])) == [3]
    assert running.bulk[0].log[0] == [20, 21, 22, 23]
    assert not {n for batch in running.log for n in batch} & set(range(24, 32))


def test_a_finished_call_cannot_be_cancelled(running):
    future = running.submit([1])
    assert firsts_of(future) == [1]
    assert not future.cancel()


@pytest.mark.parametrize("role", ["document", "query"])
def test_no_texts(running, role):
    future = running.scheduler.submit([], role)
    assert future.done()
    assert future.result().shape == (0, 2)
    assert running.engine.log == []


def test_close_fails_the_calls_that_wait(running):
    first = running.held()
    waiting = [running.submit([n], role) for n, role in ((2, "document"), (3, "query"), (4, "document"))]
    running.scheduler.warm_up([np.zeros(2, np.int32)])
    closer = threading.Thread(target=running.scheduler.close)
    closer.start()
    wait_for(lambda: running.scheduler._state.is_closed)
    running.go_on()
    closer.join(WAIT_S)
    assert not closer.is_alive()
    assert firsts_of(first) == [1]
    for future in waiting:
        with pytest.raises(ClosedError, match="closed"):
            future.result(WAIT_S)
    assert running.engine.log == [[1]]


def test_depth_and_finish(running):
    running.held()
    future = running.scheduler.submit([np.ones(1, np.int32)] * 6, "document", finish=len)
    assert (running.scheduler.depth("document"), running.scheduler.depth("query")) == (6, 0)
    broken = running.scheduler.submit([np.ones(1, np.int32)], "query", finish=lambda _: 1 / 0)
    running.go_on()
    assert future.result(WAIT_S) == 6
    with pytest.raises(ZeroDivisionError):
        broken.result(WAIT_S)
    assert running.scheduler.depth("document") == 0


def test_a_cancelled_future_tells_those_who_wait_for_it(running):
    running.held()
    gone = running.submit([2])
    gone.cancel()
    running.go_on()
    assert gone.wait(WAIT_S)


def test_after_close(running):
    running.scheduler.close()
    running.scheduler.close()
    for texts in ([1], []):
        with pytest.raises(ClosedError):
            running.submit(texts)
    assert not set(running.scheduler._threads) & set(threading.enumerate())


def test_close_on_the_workers_own_thread_does_not_wait_for_itself(running):
    done = threading.Event()

    def close(_) -> None:
        running.scheduler.close()
        done.set()

    running.held().add_done_callback(close)
    running.go_on()
    assert done.wait(WAIT_S)
    wait_for(lambda: not any(thread.is_alive() for thread in running.scheduler._threads))


def test_shapes_are_warmed_when_nothing_else_waits(running):
    running.held()
    running.scheduler.warm_up([np.full(n, 70 + n, np.int32) for n in (1, 2, 3)])
    later = running.submit([5], "query")
    running.go_on()
    assert firsts_of(later) == [5]
    wait_for(lambda: len(running.engine.log) == 5)
    assert running.engine.log == [[1], [5], [71], [72], [73]]
    assert set(running.batches) == {1}  # warm-up is not reported


def test_work_that_comes_goes_before_the_shapes_still_to_be_warmed(running):
    running.engine.hold()
    running.scheduler.warm_up([np.full(1, 70 + n, np.int32) for n in (1, 2, 3)])
    assert running.engine.reached.wait(WAIT_S)
    query = running.submit([5], "query")
    running.go_on()
    assert firsts_of(query) == [5]
    assert running.engine.log[:2] == [[71], [5]]


def test_a_shape_that_cannot_be_warmed_stops_nothing(running):
    running.scheduler.warm_up([np.full(1, POISON, np.int32)])
    wait_for(lambda: running.engine.log == [[POISON]])
    assert firsts_of(running.submit([2])) == [2]


calls = st.lists(
    st.tuples(
        st.lists(st.sampled_from([*range(1, 50), POISON]), max_size=12), st.sampled_from(["document", "query"]),
        st.integers(1, 6), st.booleans(),
    ),
    max_size=25,
)  # fmt: skip


@given(calls=calls, budget=st.integers(1, 12), sessions=st.integers(1, 4))
@settings(deadline=None, max_examples=100)
def test_many_mixed_calls(calls, budget, sessions):
    running = Running(budget, sessions)
    running.held()
    futures = [(running.submit(firsts, role, length), firsts) for firsts, role, length, _ in calls]
    gone = [i for i, call in enumerate(calls) if call[3] and futures[i][0].cancel()]
    running.go_on()
    assert all(future.wait(WAIT_S) for future, _ in futures)
    running.scheduler.close()
    for i, (future, firsts) in enumerate(futures):
        if i in gone:
            assert future.cancelled()
        elif POISON in firsts:
            assert isinstance(future.exception(), BackendError)
        else:
            assert firsts_of(future) == firsts
    assert all(len(batch) <= max(1, budget) for batch in running.log)


@pytest.mark.parametrize("role", ["query", "document"])
def test_a_caller_who_would_only_wait_runs_it_itself(role, running):
    future = running.submit([5, 6], role, inline=True)
    assert future.done()
    assert firsts_of(future) == [5, 6]
    assert running.engine.ran_on == [threading.get_ident()]
    assert running.batches == [2]
    assert firsts_of(running.submit([7], "query")) == [7]  # the worker goes on as before
    assert running.engine.ran_on[1] != threading.get_ident()


def test_not_where_another_runs(running):
    first = running.held_query()
    later = running.submit([5], "query", inline=True)
    assert not later.done()
    running.go_on()
    assert [firsts_of(first), firsts_of(later)] == [[1], [5]]
    assert threading.get_ident() not in running.engine.ran_on


def test_not_where_the_engine_wants_one_thread(running):
    running.engine.any_thread = False
    assert firsts_of(running.submit([5], "query", inline=True)) == [5]
    assert threading.get_ident() not in running.engine.ran_on


def test_documents_that_are_more_than_a_batch_go_to_the_sessions_for_bulk(running):
    assert firsts_of(running.submit(range(20, 32), inline=True)) == list(range(20, 32))
    assert threading.get_ident() not in running.engine.ran_on


@pytest.mark.parametrize("firsts", [[], [7]])
def test_a_caller_runs_nobody_elses_rows(firsts, running, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(running.scheduler, "_notify", lambda: None)  # the worker has not come to it yet
        others = running.submit([5], "query")
        own = running.submit(firsts, "document", inline=True)
        assert running.engine.log == []
        assert not others.done()
    running.scheduler.warm_up([])
    assert firsts_of(others) == [5]
    assert firsts_of(own) == firsts
    assert threading.get_ident() not in running.engine.ran_on


def test_a_caller_without_rows_runs_nothing(running, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(running.scheduler, "_notify", lambda: None)
        others = running.submit([5])
        assert running.submit([], "query", inline=True).done()
        assert not others.done()
    running.scheduler.warm_up([])
    assert firsts_of(others) == [5]


def test_queries_that_are_more_than_a_batch_go_to_the_worker(running):
    assert firsts_of(running.submit(range(20, 32), "query", inline=True)) == list(range(20, 32))
    assert threading.get_ident() not in running.engine.ran_on
    assert len(running.engine.log) == 3


def test_those_who_come_meanwhile_are_next(running):
    running.engine.hold()
    ran = threading.Thread(target=running.submit, args=([5], "query"), kwargs={"inline": True})
    ran.start()
    assert running.engine.reached.wait(WAIT_S)
    others = [running.submit([6], "query", inline=True), running.submit([7], "query")]
    assert not any(future.done() for future in others)
    running.go_on()
    assert [firsts_of(future) for future in others] == [[6], [7]]
    ran.join(WAIT_S)
    assert running.engine.log == [[5], [6, 7]]


def test_a_failure_on_the_callers_thread_is_the_calls_own(running):
    with pytest.raises(BackendError, match="poisoned"):
        running.submit([POISON], "query", inline=True).result(0)
    assert firsts_of(running.submit([5], "query", inline=True)) == [5]


def test_an_interrupt_on_the_callers_thread_leaves_the_session_free(running, monkeypatch):
    def interrupted(_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(running.engine, "run", interrupted)
        with pytest.raises(KeyboardInterrupt):
            running.submit([5], "query", inline=True)
    assert firsts_of(running.submit([6], "query")) == [6]
    assert firsts_of(running.submit([7])) == [7]


def test_close_waits_for_a_caller_who_runs_its_own_batch(running):
    running.engine.hold()
    caller = threading.Thread(target=running.submit, args=([5], "query"), kwargs={"inline": True})
    caller.start()
    assert running.engine.reached.wait(WAIT_S)
    closer = threading.Thread(target=running.scheduler.close)
    closer.start()
    wait_for(lambda: running.scheduler._state.is_closed)
    closer.join(0.2)
    assert closer.is_alive()
    running.go_on()
    closer.join(WAIT_S)
    caller.join(WAIT_S)
    assert not closer.is_alive()
    assert running.engine.log == [[5]]


@pytest.mark.parametrize("inline", [False, True])
def test_many_threads_submit_at_once(inline, running):
    results: dict[int, list[list[int]]] = {}

    def work(n: int) -> None:
        role = "query" if n % 2 else "document"
        results[n] = [firsts_of(running.submit([n * 100 + i, n], role, inline=inline)) for i in range(50)]

    threads = [threading.Thread(target=work, args=(n,)) for n in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    assert results == {n: [[n * 100 + i, n] for i in range(50)] for n in range(1, 9)}


def wait_for(condition) -> None:
    """Until another thread has come so far, where nothing tells of it."""
    pause = threading.Event()
    for _ in range(WAIT_S * 100):
        if condition():
            return
        pause.wait(0.01)
    raise AssertionError("the other thread did not come so far")
