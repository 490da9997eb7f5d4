"""Worker threads before the backend: callers merged into batches, queries on an engine of their own."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from nimbed._jobs import JobThread
from nimbed._lanes import Batch, Lane, Request
from nimbed._types import BatchRecord, TokenBatch
from nimbed.errors import BackendError, ClosedError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nimbed._shapes import ShapePolicy
    from nimbed._types import Bulk, Float32Array, Int32Array, Role, Session

logger = logging.getLogger("nimbed")

# Batches that ran, or parts of one that failed, with their vectors.
Results = list[tuple[Batch, "Float32Array"]]
# What a session runs next; a lone sequence is there to warm a shape.
Turn = TypeVar("Turn", bound="Batch | TokenBatch | None")

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
        clock: seconds.
    """

    def __init__(
        self,
        session: Session,
        shapes: ShapePolicy,
        bulk: Bulk,
        dim: int,
        *,
        on_batch: Callable[[BatchRecord], None],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._dim = dim
        self._on_batch = on_batch
        self._clock = clock
        self._shapes: dict[Role, ShapePolicy] = {"query": shapes, "document": bulk.shapes}
        self._lanes: dict[Role, Lane] = {
            "query": Lane("query", shapes, ahead=False),
            "document": Lane("document", bulk.shapes, ahead=True),
        }
        self._warm: deque[TokenBatch] = deque()
        self._lock = threading.RLock()  # garbage collection may close it from within
        # Apart, so that a query does not wake those that wait for documents, nor waits behind their vectors.
        self._wake: dict[Role, threading.Condition] = {role: threading.Condition(self._lock) for role in self._lanes}
        self._busy: set[int] = set()  # threads that run a batch
        self._holder: int | None = None  # the thread that runs the queries' session
        self._closed = False
        self._givers: dict[Role, JobThread] = {role: JobThread(f"nimbed-give-{role}") for role in self._lanes}
        self.sessions = (session, *bulk.sessions)
        work: list[tuple[Role, Session]] = [("query", session), *(("document", one) for one in bulk.sessions)]
        self._threads = [
            threading.Thread(target=self._work, args=one, name=f"nimbed-worker-{n}", daemon=True)
            for n, one in enumerate(work)
        ]
        for thread in self._threads:
            thread.start()

    def submit(
        self,
        sequences: Sequence[Int32Array],
        role: Role,
        *,
        future: Future[Any] | None = None,
        finish: Callable[[Float32Array], Any] = lambda vectors: vectors,
        here: bool = False,
    ) -> Future[Any]:
        """A future of ``finish(vectors)``, float32 ``[len(sequences), dim]`` in the order of the sequences.

        Args:
            sequences: token ids.
            role: whose sessions compute them.
            future: to be resolved; cancelling it takes the rows that have not started out of the queue.
            finish: called on a thread of the scheduler's, or on this one.
            here: whether this thread may run them, and return when that is done.

        Raises:
            ClosedError: the scheduler was closed.
        """
        vectors = np.empty((len(sequences), self._dim), np.float32)
        request = Request(sequences=sequences, vectors=vectors, finish=finish, future=future or Future())
        batch = self._put(request, role, here=here)
        if not sequences:
            request.complete()
        if batch is not None:
            self._run_here(batch)
        return request.future

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
        with self._lock:
            self._closed = True
            left = [request for lane in self._lanes.values() for request in lane.drain()]
            for condition in self._wake.values():
                condition.notify_all()
        for request in left:
            request.fail(ClosedError("this encoder was closed before the call was done"))
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(_JOIN_S)
        with self._lock:  # a caller may be in the middle of its own batch
            self._wake["query"].wait_for(lambda: self._holder in {None, threading.get_ident()}, _JOIN_S)
        for giver in self._givers.values():
            giver.close(wait_s=_JOIN_S)

    def _put(self, request: Request, role: Role, *, here: bool) -> Batch | None:
        """Let a request wait; or where nothing else does, give what this thread may run: rows of its own alone."""
        with self._lock:
            if self._closed:
                raise ClosedError("this encoder is closed")
            idle = self._holder is None and not self._lanes["query"] and not self._lanes[role]
            here = here and idle and bool(request.sequences) and self.sessions[0].any_thread
            if request.sequences:
                self._lanes[role].put(request)
            batch = self._begin("query", self._next_batch()) if here else None
            if batch is None:
                self._tell()
        return batch

    def _tell(self) -> None:
        """Wake who may have something to do; under the lock."""
        documents = bool(self._lanes["document"])
        if self._holder is None and (documents or self._lanes["query"] or self._warm or self._closed):
            self._wake["query"].notify()
        if documents:
            self._wake["document"].notify_all()

    def _work(self, role: Role, session: Session) -> None:
        results: Results = []
        while (turn := self._wait_for(role, results)) is not None:
            results = _run_warm(session, turn) if isinstance(turn, TokenBatch) else self._run(turn, session)
            del turn  # an idle worker must not keep the last caller's vectors

    def _run_here(self, batch: Batch) -> None:
        """On a caller's thread: one turn of the worker for queries."""
        results: Results = []
        try:
            results = self._run(batch, self.sessions[0])
        finally:
            with self._lock:
                self._end()
                self._tell()
        _give(results)

    def _wait_for(self, role: Role, results: Results) -> Batch | TokenBatch | None:
        """What runs next, when there is something; what ran last goes to its callers meanwhile."""
        with self._lock:
            turn = self._take(role)
        if turn is not None:
            if results:
                self._givers[results[0][0].role].put(partial(_give, results))
            return turn
        _give(results)
        results.clear()
        with self._lock:
            while not self._closed and (turn := self._take(role)) is None:
                self._wake[role].wait()
        return turn

    def _take(self, role: Role) -> Batch | TokenBatch | None:
        """What is there for this worker to run, which has run what it took before; under the lock."""
        ran = self._end()
        turn: Batch | TokenBatch | None = None
        if role == "document":
            turn = self._next_document()
        elif self._holder is None:
            turn = self._next_batch() or (self._warm.popleft() if self._warm and not self._closed else None)
        if self._begin(role, turn) is not None or ran:
            # The documents that are left may be one batch now, which is the other sessions' while a query is under way.
            self._tell()
        return turn

    def _begin(self, role: Role, turn: Turn) -> Turn:
        """Note that this thread runs this turn now, if there is one; under the lock."""
        if turn is not None:
            me = threading.get_ident()
            if isinstance(turn, Batch):
                self._busy.add(me)
            if role == "query":
                self._holder = me
        return turn

    def _end(self) -> bool:
        """Note that this thread has run its turn, and whether that was a batch; under the lock."""
        me = threading.get_ident()
        ran = me in self._busy
        self._busy.discard(me)
        if self._holder == me:
            self._holder = None
        return ran

    def _next_batch(self) -> Batch | None:
        """For the queries' session."""
        if self._closed:
            return None
        batch = self._lanes["query"].take()
        return self._lanes["document"].take() if batch is None and self._is_lone() else batch

    def _next_document(self) -> Batch | None:
        return None if self._closed or self._is_lone() else self._lanes["document"].take()

    def _is_lone(self) -> bool:
        """Whether all threads can be had for the documents that wait: they are one batch, and nothing else runs."""
        return not self._busy and not self._lanes["query"] and self._lanes["document"].is_one_batch

    def _run(self, batch: Batch, session: Session) -> Results:
        started = self._clock()
        results = self._attempt(batch, session, split=False)
        lengths = [len(sequence) for sequence in batch.sequences]
        shapes = self._shapes[batch.role]
        record = BatchRecord(
            role=batch.role,
            rows=len(lengths),
            tokens=sum(lengths),
            padded_tokens=len(lengths) * shapes.pad_to(max(lengths), rows=len(lengths)),
            seconds=self._clock() - started,
        )
        self._on_batch(record)  # before the callers wake, who may look at the counts
        return results

    def _attempt(self, batch: Batch, session: Session, *, split: bool) -> Results:
        """The batch's vectors; where it fails, those of its parts that do not."""
        try:
            vectors = session.run(TokenBatch.from_sequences(batch.sequences))
            if vectors.shape != (len(batch.rows), self._dim):
                raise BackendError(f"the engine gave vectors of shape {vectors.shape} for {len(batch.rows)} texts")  # noqa: TRY301
        except Exception as err:
            parts = batch.halves() if isinstance(err, MemoryError) and not split else batch.by_request()
            if len(parts) < 2:
                batch.fail(err)
                return []
            logger.debug("a batch of %d rows failed and is tried in parts", len(batch.rows), exc_info=err)
            return [result for part in parts for result in self._attempt(part, session, split=True)]
        return [(batch, vectors)]


def _give(results: Results) -> None:
    for batch, vectors in results:
        for (request, index), vector in zip(batch.rows, vectors, strict=True):
            request.put(index, vector)


def _run_warm(session: Session, batch: TokenBatch) -> Results:
    try:
        session.run(batch)
    except Exception:  # a shape that cannot be warmed will raise where it is used
        logger.debug("warming a shape failed", exc_info=True)
    return []
