"""Threads: one that runs jobs for others, and the error where none can be started."""

from __future__ import annotations

import logging
import queue
import threading
import time
from typing import TYPE_CHECKING

from nimbed.errors import BackendError, ClosedError

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger("nimbed")


def start_thread(thread: threading.Thread) -> threading.Thread:
    """The thread, started.

    Raises:
        BackendError: the system lets this process have no further thread.
    """
    try:
        thread.start()
    except (RuntimeError, MemoryError) as err:
        if isinstance(err.__context__, KeyboardInterrupt):
            raise err.__context__ from None  # it came while this thread waited for the other's start
        raise BackendError(
            f"the thread {thread.name} cannot be started ({err}): the process is at its limit of threads (ulimit -u; "
            "in a container pids.max) or of memory (ulimit -v); raise it, or let the program start fewer threads"
        ) from err
    return thread


def wait_until(condition: Callable[[], bool], wait_s: float) -> None:
    """Poll until the condition holds, for ``wait_s`` at most."""
    end = time.monotonic() + wait_s
    while not condition() and time.monotonic() < end:
        time.sleep(0.001)


class WorkerThread:
    """One thread that runs jobs in the order in which they come; it starts with the first."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._closed = False

    def put(self, job: Callable[[], None]) -> None:
        """Queue a job for the thread.

        Raises:
            ClosedError: it was closed.
            BackendError: the thread could not be started.
        """
        with self._lock:
            if self._closed:
                raise ClosedError("this encoder is closed")
            if self._thread is None:
                self._thread = start_thread(threading.Thread(target=self._work, name=self._name, daemon=True))
            self._jobs.put(job)

    def stop(self) -> None:
        """Take no further jobs; the thread ends when those in the queue have run."""
        with self._lock:
            self._closed = True
            self._jobs.put(None)

    def join(self, wait_s: float | None = None) -> None:
        """Wait for the thread's end, for ``wait_s`` at most; without it, as long as it takes."""
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(wait_s)

    def _work(self) -> None:
        job: Callable[[], None] | None = _nothing
        while job is not None:
            job = _nothing
            try:
                if (job := self._jobs.get()) is not None:
                    job()
            except BaseException:  # a job that fails must not stop the next
                logger.exception("a job on the thread %s failed", self._name)
        self._jobs.put(None)  # an interrupt during its start may have left a second thread


def _nothing() -> None:
    pass
