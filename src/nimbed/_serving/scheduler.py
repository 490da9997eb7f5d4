"""Worker threads before the backend: callers merged into batches, queries on an engine of their own."""

from __future__ import annotations

import logging
import threading
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from nimbed._promise import Promise
from nimbed._serving.plan import plan
from nimbed._serving.queues import Batch, Lane, Request, as_they_are
from nimbed._serving.runner import Runner, give, run_warm, told
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
    """Runs batches, each session in a thread of its own.

    No fixed wait: a session that is free takes what is there. Queries have a session with all of the engine's threads;
    while documents run beside them, the system divides the cores, so neither waits for the other and neither starves.
    A lone batch of documents takes the queries' session, if nothing runs; more than one are divided among the sessions
    for bulk. While more waits, another thread hands vectors to their callers: the engine does not stop for it. A caller
    who would only wait may run that session on its own thread, where no one else waits: a query costs no change of
    threads then.

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
        self._lanes: dict[Role, Lane] = {
            "query": Lane("query", shapes, ahead=False),
            "document": Lane("document", bulk.shapes, ahead=True),
        }
        self._warm: deque[TokenBatch] = deque()
        self._lock = threading.RLock()  # garbage collection may close it from within
        # Apart, so that a query does not wake those that wait for documents, nor waits behind their vectors.
        self._wake: dict[Role, threading.Condition] = {role: threading.Condition(self._lock) for role in self._lanes}
        self._turns: dict[int, Batch] = {}  # what each thread runs
        self._holder: int | None = None  # the thread that runs the queries' session
        self._closed = False
        self._givers: dict[Role, WorkerThread] = {role: WorkerThread(f"nimbed-give-{role}") for role in self._lanes}
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
        finish: Callable[[Float32Array], Any] = as_they_are,
        inline: bool = False,
    ) -> Promise[Any]:
        """A promise of ``finish(vectors)``, float32 ``[len(sequences), dim]`` in the order of the sequences.

        Args:
            sequences: token ids.
            role: whose sessions compute them.
            promise: to be kept; giving it up takes the rows that have not started out of the queue.
            finish: called on a thread of the scheduler's, or on this one.
            inline: whether this thread may run them, and return when that is done.

        Raises:
            ClosedError: the scheduler was closed.
        """
        request = Request(sequences, np.empty((len(sequences), self._dim), np.float32), finish, promise or Promise())
        try:
            batch = self._put(request, role, inline=inline)
            if not sequences:
                request.complete()
            if batch is not None:
                results = self.runner.run(batch, self.sessions[0])
                self._leave(request)
                give(results)
        except BaseException as err:  # an interrupt may come anywhere, also while this thread holds the session
            self._leave(request)
            request.fail(err)
            raise
        return request.promise

    def expect(self) -> None:
        """A query is about to come: while it is tokenized, the threads that would compute it wake."""
        if self._holder is None:
            self.sessions[0].expect()

    def warm(self, sequences: Sequence[Int32Array]) -> None:
        """Run each sequence alone when nothing else waits, so that its shape is compiled before it is needed."""
        with self._lock:
            self._warm.extend(TokenBatch.from_sequences([sequence]) for sequence in sequences)
            self._tell()

    def depth(self, role: Role) -> int:
        """Sequences of this role that wait."""
        with self._lock:
            return self._lanes[role].depth

    def close(self) -> None:
        """Stop after the batches that run now; calls that wait fail with ClosedError."""
        self.stop()
        self.join()

    def stop(self) -> None:
        """As :meth:`close`, without waiting for the batches that run now."""
        with self._lock:
            self._closed = True
            left = [request for lane in self._lanes.values() for request in lane.drain()]
            for condition in self._wake.values():
                condition.notify_all()
        for request in left:
            request.fail(ClosedError("this encoder was closed before the call was done"))
        for giver in self._givers.values():
            giver.stop()

    def join(self) -> None:
        """Wait for what runs now, when it was stopped."""
        for thread in self._threads:
            if thread.ident not in {None, threading.get_ident()}:  # one that could not be started has no number
                thread.join(_JOIN_S)
        # A caller may be in the middle of its own batch.
        wait_until(lambda: self._holder in {None, threading.get_ident()}, _JOIN_S)
        for giver in self._givers.values():
            giver.join(_JOIN_S)

    def _put(self, request: Request, role: Role, *, inline: bool) -> Batch | None:
        """Let a request wait; or where nothing else does, give what this thread runs now: all of its rows."""
        batch = self._own_batch(request, role) if inline and self.sessions[0].any_thread else None
        with self._lock:
            if self._closed:
                raise ClosedError("this encoder is closed")
            idle = self._holder is None and not self._lanes["query"] and not self._lanes[role]
            if batch is not None and idle and (role == "query" or not self._turns):
                self._begin("query", batch)
                return batch
            if request.sequences:
                self._lanes[role].put(request)
            self._tell()
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

    def _leave(self, request: Request) -> None:
        """This thread runs this request's rows no longer, if it did. May be repeated."""
        with self._lock:
            batch = self._turns.get(threading.get_ident())
            if batch is not None and batch.rows[0][0] is request:
                self._end()
            self._tell()

    def _tell(self) -> None:
        """Wake who may have something to do; under the lock."""
        documents = bool(self._lanes["document"])
        if self._holder is None and (documents or self._lanes["query"] or self._warm or self._closed):
            self._wake["query"].notify()
        if documents:
            self._wake["document"].notify_all()

    def _work(self, role: Role, session: Session) -> None:
        results: Results = []  # that nobody has been given
        while True:
            try:
                self._serve(role, session, results)
            except BaseException as err:  # noqa: BLE001 (whatever it is: those who come later find this worker)
                self._failed(err, [batch for batch, _ in results])
                results.clear()
            else:
                return

    def _serve(self, role: Role, session: Session, results: Results) -> None:
        while (turn := self._wait_for(role, results)) is not None:
            results += run_warm(session, turn) if isinstance(turn, TokenBatch) else self.runner.run(turn, session)
            del turn  # an idle worker must not keep the last caller's vectors

    def _failed(self, error: BaseException, batches: list[Batch]) -> None:
        """Give a worker's own callers what it met, and let the others have their turn."""
        logger.error("the engine's thread met %r and goes on", error, exc_info=error)
        with self._lock:
            batches += [self._turns[me]] if (me := threading.get_ident()) in self._turns else []
            self._end()
            self._tell()
        for batch in batches:
            batch.fail(told(error))

    def _wait_for(self, role: Role, results: Results) -> Batch | TokenBatch | None:
        """What runs next, when there is something; what ran last goes to its callers meanwhile."""
        with self._lock:
            turn = self._take(role)
        if turn is not None:
            if results:
                self._give_meanwhile(results.copy())
                results.clear()
            return turn
        give(results)
        results.clear()
        with self._lock:
            while not self._closed and (turn := self._take(role)) is None:
                self._wake[role].wait()
        return turn

    def _give_meanwhile(self, results: Results) -> None:
        """On another thread, or where there is none on this one."""
        try:
            self._givers[results[0][0].role].put(partial(give, results))
        except NimbedError as err:
            logger.debug("vectors are handed over by the engine's own thread: %s", err)
            give(results)

    def _take(self, role: Role) -> Batch | TokenBatch | None:
        """What is there for this worker to run, which has run what it took before; under the lock."""
        ran = self._end()
        try:
            turn = self._next(role)
        except BaseException as err:  # whose rows it was that could not be planned is not known
            for request in [request for lane in self._lanes.values() for request in lane.drain()]:
                request.fail(told(err))
            raise
        if turn is not None:
            self._begin(role, turn)
        if turn is not None or ran:
            # The documents that are left may be one batch now, which is the other sessions' while a query is under way.
            self._tell()
        return turn

    def _next(self, role: Role) -> Batch | TokenBatch | None:
        if self._closed or (role == "query" and self._holder is not None):
            return None
        if role == "document":
            return None if self._is_lone() else self._lanes["document"].take()
        batch = self._lanes["query"].take() or (self._lanes["document"].take() if self._is_lone() else None)
        return batch or (self._warm.popleft() if self._warm else None)

    def _begin(self, role: Role, turn: Batch | TokenBatch) -> None:
        """Note that this thread runs this turn now; under the lock."""
        me = threading.get_ident()
        if isinstance(turn, Batch):
            self._turns[me] = turn
        if role == "query":
            self._holder = me

    def _end(self) -> bool:
        """Note that this thread has run its turn, and whether that was a batch; under the lock."""
        me = threading.get_ident()
        if self._holder == me:
            self._holder = None
        return self._turns.pop(me, None) is not None

    def _is_lone(self) -> bool:
        """Whether all threads can be had for the documents that wait: they are one batch, and nothing else runs."""
        return not self._turns and not self._lanes["query"] and self._lanes["document"].is_one_batch
