"""What waits for the engine and what runs: the scheduler's state, without threads and locks."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from nimbed._serving.queues import RequestQueue
from nimbed.errors import ClosedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nimbed._serving.queues import Batch, Request
    from nimbed._types import Role, TokenBatch
    from nimbed.backends.shapes import ShapePolicy


class SchedulerState:
    """Requests in queues, batches that run, and who runs the queries' session; each method below is an event.

    The scheduler calls them under its lock. An interrupt may come at any call within one: a batch counts as running
    before it leaves its queue, so it is always in one of the two, and its thread can fail it.

    Args:
        shapes: of each role's batches.
        longest_lent: tokens of the longest batch of documents for which the queries' session is lent; None: any.

    Attributes:
        running: what each thread runs, by the thread's number.
        query_thread: the thread that runs the queries' session, or None while that is free.
        warm_up: shapes to run when nothing else waits.
        is_closed: whether nothing starts any more.
    """

    def __init__(self, shapes: Mapping[Role, ShapePolicy], longest_lent: int | None = None) -> None:
        self._longest_lent = longest_lent
        # Queries that come later may be in the next batch; documents are planned ahead, so that like lengths meet.
        self._queries = RequestQueue("query", shapes["query"], ahead=False)
        self._documents = RequestQueue("document", shapes["document"], ahead=True)
        self.queues: Mapping[Role, RequestQueue] = {"query": self._queries, "document": self._documents}
        self.running: dict[int, Batch] = {}
        self.query_thread: int | None = None
        self.warm_up: deque[TokenBatch] = deque()
        self.is_closed = False

    def submitted(self, request: Request, role: Role) -> None:
        """A request has come, and waits.

        Raises:
            ClosedError: nothing starts any more.
        """
        if self.is_closed:
            raise ClosedError("this encoder is closed")
        if request.sequences:
            self.queues[role].put(request)

    def batch_taken(self, thread: int, batch: Batch) -> bool:
        """A caller's thread asks for the queries' session to run its own batch. If it may, the batch counts as running.

        Nothing may wait or run before it, nor run on this thread already (and its hook embeds). Documents leave the
        session to queries while other documents run, and where they are long.
        """
        busy = self.query_thread is not None or thread in self.running
        if batch.role == "document":
            busy = busy or bool(self.running) or not self._may_be_lent(batch)
        if self.is_closed or busy or self._queries or self.queues[batch.role]:
            return False
        self.running[thread] = batch
        self.query_thread = thread
        return True

    def session_idle(self, thread: int, role: Role) -> Batch | TokenBatch | None:
        """A session for this role is idle: the batch that its thread runs from now on, or None if there is none."""
        if self.is_closed or (role == "query" and self.query_thread is not None):
            return None
        queue, batch = self._next(role)
        if batch is not None:
            self.running[thread] = batch
            if role == "query":
                self.query_thread = thread
            queue.remove_first()
            return batch
        if role == "query" and self.warm_up:
            self.query_thread = thread
            return self.warm_up.popleft()
        return None

    def batch_done(self, thread: int, of: Request | None = None) -> bool:
        """A thread has run what it took, if anything. Returns whether that was a batch; may be repeated.

        Args:
            thread: its number.
            of: only where it ran the batch of this request.
        """
        batch = self.running.get(thread)
        if of is not None and (batch is None or batch.rows[0][0] is not of):
            return False
        if self.query_thread == thread:
            self.query_thread = None
        return self.running.pop(thread, None) is not None

    def closed(self) -> list[Request]:
        """The scheduler was closed, and nothing starts any more. Returns the requests that waited."""
        self.is_closed = True
        return self.drained()

    def drained(self) -> list[Request]:
        """The requests that waited, each once; the queues are empty then."""
        return [request for queue in self.queues.values() for request in queue.drain()]

    def has_work(self, role: Role) -> bool:
        """Whether a session for this role may have something to do, so that its thread has to wake."""
        if role == "document":
            return bool(self._documents)
        waiting = bool(self._queries) or bool(self._documents) or bool(self.warm_up)
        return self.query_thread is None and (waiting or self.is_closed)

    def _next(self, role: Role) -> tuple[RequestQueue, Batch | None]:
        """Queries first. Documents are the bulk sessions', or the queries' session's where that is faster."""
        if role == "query" and (batch := self._queries.first()) is not None:
            return self._queries, batch
        is_theirs = (role == "query") == self._all_threads_for_documents()
        return self._documents, self._documents.first() if is_theirs else None

    def _all_threads_for_documents(self) -> bool:
        """Whether the documents that wait are one batch and nothing else runs or waits: it gets all threads then."""
        if self.running or self._queries or not self._documents.is_one_batch:
            return False
        batch = self._documents.first()
        return batch is not None and self._may_be_lent(batch)

    def _may_be_lent(self, batch: Batch) -> bool:
        """Whether a query may wait for it in its own session."""
        return self._longest_lent is None or batch.tokens <= self._longest_lent
