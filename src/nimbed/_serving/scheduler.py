"""Worker threads before the backend: callers merged into batches, queries on an engine of their own."""

from __future__ import annotations

import logging
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from nimbed._promise import Promise
from nimbed._serving.plan import plan
from nimbed._serving.queues import Batch, Request, unchanged
from nimbed._serving.runner import Runner, deliver, for_others, warm_up
from nimbed._serving.scheduler_state import SchedulerState
from nimbed._serving.worker_thread import WorkerThread, start_thread, wait_until
from nimbed._types import TokenBatch
from nimbed.errors import ClosedError, NimbedError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nimbed._serving.runner import Results
    from nimbed._types import BatchRecord, Float32Array, Int32Array, Role
    from nimbed.backends.protocol import Bulk, Session
    from nimbed.backends.shapes import ShapePolicy

logger = logging.getLogger("nimbed")

# An engine that hangs must not hang the end of the process.
_JOIN_S = 10.0


class Scheduler:
    """Owns the sessions and their threads; what waits and what runs is in its :class:`SchedulerState`.

    There is no fixed wait: a session that is free takes what is there. Queries have a session with all of the engine's
    threads; while documents run beside them, the operating system divides the cores, so that neither starves (in the
    native engine documents pause for a query, for some milliseconds at most). A single batch of documents takes the
    queries' session if nothing else runs; several are divided among the sessions for bulk. While more waits, another
    thread delivers vectors to their callers, so that the engine does not stop for it. A caller that would only wait may
    run the queries' session on its own thread where nothing else waits: a query then costs no change of threads.

    Args:
        session: for queries.
        shapes: of batches of queries.
        bulk: the sessions for documents, and their shapes.
        dim: width of the sessions' vectors.
        on_batch: called after each batch, on the thread that ran it.
    """

    def __init__(
        self, session: Session, shapes: ShapePolicy, bulk: Bulk, dim: int, *, on_batch: Callable[[BatchRecord], None]
    ) -> None:
        self._dim = dim
        self._shapes: dict[Role, ShapePolicy] = {"query": shapes, "document": bulk.shapes}
        self.runner = Runner(dim, self._shapes, on_batch)
        self._state = SchedulerState(self._shapes, bulk.longest_lent)
        self._lock = threading.RLock()  # garbage collection may close it on the thread that holds it
        # Two conditions: a query does not wake threads that wait for documents, nor wait behind their vectors.
        self._wake: dict[Role, threading.Condition] = {role: threading.Condition(self._lock) for role in self._shapes}
        self._deliverers: dict[Role, WorkerThread] = {
            role: WorkerThread(f"nimbed-deliver-{role}") for role in self._shapes
        }
        self.sessions = (session, *bulk.sessions)
        work: list[tuple[Role, Session]] = [("query", session), *(("document", one) for one in bulk.sessions)]
        self._threads = [
            threading.Thread(target=self._work, args=one, name=f"nimbed-worker-{n}", daemon=True)
            for n, one in enumerate(work)
        ]

    def start(self) -> None:
        """Start the workers.

        Raises:
            BackendError: the system lets this process have no further thread.
        """
        for thread in self._threads:
            start_thread(thread)

    def submit(
        self,
        sequences: Sequence[Int32Array],
        role: Role,
        *,
        promise: Promise[Any] | None = None,
        finish: Callable[[Float32Array], Any] = unchanged,
        inline: bool = False,
    ) -> Promise[Any]:
        """A promise of ``finish(vectors)``, float32 ``[len(sequences), dim]`` in the order of the sequences.

        Args:
            sequences: token ids.
            role: whose sessions compute them.
            promise: to be resolved; cancelling it takes the rows that have not started out of the queue.
            finish: called on a thread of the scheduler's, or on this one.
            inline: whether this thread may run them, and return when that is done.

        Raises:
            ClosedError: the scheduler was closed.
        """
        request = Request(sequences, np.empty((len(sequences), self._dim), np.float32), finish, promise or Promise())
        try:
            batch = self._queue(request, role, inline=inline)
            if not sequences:
                request.complete()
            if batch is not None:
                results = self.runner.run(batch, self.sessions[0])
                self._inline_done(request)
                deliver(results)
        except BaseException as err:  # an interrupt may come anywhere, also while this thread runs the session
            self._inline_done(request)
            request.fail(err)
            raise
        return request.promise

    def expect(self) -> None:
        """A query is about to come: while it is tokenized, the threads that would compute it wake."""
        if self._state.query_thread is None:
            self.sessions[0].expect()

    def warm_up(self, sequences: Sequence[Int32Array]) -> None:
        """Run each sequence alone when nothing else waits, so that its shape is compiled before it is needed."""
        with self._lock:
            self._state.warm_up.extend(TokenBatch.from_sequences([sequence]) for sequence in sequences)
            self._notify()

    def depth(self, role: Role | None = None) -> int:
        """Sequences that wait, in one role or in both."""
        with self._lock:
            return sum(queue.depth for of, queue in self._state.queues.items() if role in {None, of})

    def close(self) -> None:
        """Stop after the batches that run now; calls that wait fail with ClosedError."""
        self.stop()
        self.join()

    def stop(self) -> None:
        """As :meth:`close`, without waiting for the batches that run now."""
        with self._lock:
            left = self._state.closed()
            for condition in self._wake.values():
                condition.notify_all()
        for request in left:
            request.fail(ClosedError("this encoder was closed before the call was done"))
        for deliverer in self._deliverers.values():
            deliverer.stop()

    def join(self) -> None:
        """Wait for what runs now, when it was stopped."""
        for thread in self._threads:
            if thread.ident not in {None, threading.get_ident()}:  # one that could not be started has no number
                thread.join(_JOIN_S)
        # A caller may be in the middle of its own batch.
        wait_until(lambda: self._state.query_thread in {None, threading.get_ident()}, _JOIN_S)
        for deliverer in self._deliverers.values():
            deliverer.join(_JOIN_S)

    def _queue(self, request: Request, role: Role, *, inline: bool) -> Batch | None:
        """Let a request wait; or where nothing is before it, the batch of its rows that this thread has to run now."""
        batch = self._own_batch(request, role) if inline and self.sessions[0].any_thread else None
        with self._lock:
            if batch is not None and self._state.batch_taken(threading.get_ident(), batch):
                return batch
            self._state.submitted(request, role)
            self._notify()
        return None

    def _own_batch(self, request: Request, role: Role) -> Batch | None:
        """All of a request's rows, where they are one batch."""
        lengths = [len(sequence) for sequence in request.sequences]
        if len(lengths) == 1:
            return Batch(role=role, rows=[(request, 0)])
        if not lengths or sum(lengths) > self._shapes[role].token_budget:
            return None
        first, *more = plan(lengths, self._shapes[role])
        return None if more else Batch(role=role, rows=[(request, int(index)) for index in first])

    def _inline_done(self, request: Request) -> None:
        """This thread does not run this request's rows any more, if it did. May be repeated."""
        with self._lock:
            self._state.batch_done(threading.get_ident(), of=request)
            self._notify()

    def _notify(self) -> None:
        """Wake the threads that may have something to do; under the lock."""
        if self._state.has_work("query"):
            self._wake["query"].notify()
        if self._state.has_work("document"):
            self._wake["document"].notify_all()

    def _work(self, role: Role, session: Session) -> None:
        undelivered: Results = []
        while True:
            try:
                self._serve(role, session, undelivered)
            except BaseException as err:  # noqa: BLE001 (whatever it is, this worker goes on for those who come later)
                self._recover(err, [batch for batch, _ in undelivered])
                undelivered.clear()
            else:
                return

    def _serve(self, role: Role, session: Session, undelivered: Results) -> None:
        while (turn := self._wait_for_work(role, undelivered)) is not None:
            undelivered += warm_up(session, turn) if isinstance(turn, TokenBatch) else self.runner.run(turn, session)
            del turn  # an idle worker must not keep the last caller's vectors

    def _recover(self, error: BaseException, batches: list[Batch]) -> None:
        """Fail the calls whose rows a worker had, and let the others have their turn."""
        logger.error("the engine's thread met %r and goes on", error, exc_info=error)
        me = threading.get_ident()
        with self._lock:
            batches += [self._state.running[me]] if me in self._state.running else []
            self._state.batch_done(me)
            self._notify()
        for batch in batches:
            batch.fail(for_others(error))

    def _wait_for_work(self, role: Role, undelivered: Results) -> Batch | TokenBatch | None:
        """What runs next, or None when it was closed; what ran last is delivered meanwhile."""
        with self._lock:
            turn = self._take(role)
        if turn is not None:
            if undelivered:
                self._deliver_meanwhile(undelivered.copy())
                undelivered.clear()
            return turn
        deliver(undelivered)
        undelivered.clear()
        with self._lock:
            while not self._state.is_closed and (turn := self._take(role)) is None:
                self._wake[role].wait()
        return turn

    def _deliver_meanwhile(self, results: Results) -> None:
        """On another thread, or on this one where no other can be had."""
        try:
            self._deliverers[results[0][0].role].put(partial(deliver, results))
        except NimbedError as err:
            logger.debug("vectors are delivered by the engine's own thread: %s", err)
            deliver(results)

    def _take(self, role: Role) -> Batch | TokenBatch | None:
        """What this worker runs next, which has run what it took before; under the lock."""
        me = threading.get_ident()
        ran = self._state.batch_done(me)
        try:
            turn = self._state.session_idle(me, role)
        except BaseException as err:  # it is not known whose rows could not be planned
            for request in self._state.drained():
                request.fail(for_others(err))
            raise
        if turn is not None or ran:
            # The documents that are left may be one batch now, which is for the other sessions while a query runs.
            self._notify()
        return turn
