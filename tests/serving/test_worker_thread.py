"""A thread for jobs: in their order, whatever one of them raises, and none after the end."""

from __future__ import annotations

import threading

import pytest

from nimbed._serving.worker_thread import WorkerThread, start_thread, wait_until
from nimbed.errors import BackendError, ClosedError

WAIT_S = 20


def test_jobs_run_in_their_order_on_one_thread_of_that_name():
    worker, ran = WorkerThread("a-name"), []
    for number in range(100):
        worker.put(lambda number=number: ran.append((number, threading.current_thread().name)))
    worker.stop()
    worker.join(WAIT_S)
    assert ran == [(number, "a-name") for number in range(100)]


def test_no_thread_is_started_before_the_first_job():
    before = threading.active_count()
    worker = WorkerThread("idle")
    worker.join()  # there is none to wait for
    worker.stop()
    assert threading.active_count() == before


@pytest.mark.parametrize("error", [ValueError("a job's own"), SystemExit(1), KeyboardInterrupt()])
def test_what_a_job_raises_is_told_and_does_not_stop_the_next(error, caplog):
    def failing():
        raise error

    worker, ran = WorkerThread("jobs"), []
    worker.put(failing)
    worker.put(lambda: ran.append(1))
    worker.stop()
    worker.join(WAIT_S)
    assert ran == [1]
    assert "a job on the thread jobs failed" in caplog.text


def test_jobs_that_were_put_before_the_end_still_run():
    worker, go_on, ran = WorkerThread("jobs"), threading.Event(), []
    worker.put(lambda: go_on.wait(WAIT_S))
    worker.put(lambda: ran.append("late"))
    worker.stop()
    with pytest.raises(ClosedError, match="closed"):
        worker.put(lambda: ran.append("too late"))
    worker.join(0.001)
    assert ran == []
    go_on.set()
    worker.join(WAIT_S)
    assert ran == ["late"]


def test_a_job_that_joins_its_own_thread_does_not_wait_for_itself():
    worker, joined = WorkerThread("jobs"), threading.Event()
    worker.put(lambda: (worker.join(), joined.set()))
    assert joined.wait(WAIT_S)
    worker.stop()
    worker.join(WAIT_S)


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), MemoryError()])
def test_where_no_thread_can_be_had_the_limits_are_named(error, monkeypatch):
    def refuse(_):
        raise error

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(BackendError, match=r"the thread mine cannot be started .*ulimit -u.*pids\.max") as caught:
        start_thread(threading.Thread(name="mine"))
    assert caught.value.__cause__ is error
    worker = WorkerThread("jobs")
    with pytest.raises(BackendError):
        worker.put(lambda: None)
    monkeypatch.undo()
    done = threading.Event()
    worker.put(done.set)  # it is tried anew
    assert done.wait(WAIT_S)
    worker.stop()


def test_an_interrupt_during_the_start_is_the_users(monkeypatch):
    def interrupted(_):
        try:
            raise KeyboardInterrupt
        finally:
            raise RuntimeError("cannot release un-acquired lock")

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        start_thread(threading.Thread())


def test_polling_ends_with_the_condition_or_the_time(monkeypatch):
    now, asked = [0.0], []
    monkeypatch.setattr("nimbed._serving.worker_thread.time.monotonic", lambda: now[0])
    monkeypatch.setattr("nimbed._serving.worker_thread.time.sleep", lambda s: now.__setitem__(0, now[0] + s))
    wait_until(lambda: asked.append(1) or len(asked) == 3, 1)
    assert (len(asked), now[0]) == (3, pytest.approx(0.002))
    wait_until(lambda: False, 1)
    assert now[0] == pytest.approx(1.002, abs=0.002)
