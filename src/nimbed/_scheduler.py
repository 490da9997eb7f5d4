"""One worker thread before the backend: callers merged into batches, queries first at every batch boundary."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from nimbed._lanes import Batch, Lane, Request
from nimbed._types import BatchRecord, TokenBatch
from nimbed.errors import BackendError, ClosedError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nimbed._types import Float32Array, Int32Array, Role, Session, ShapePolicy

logger = logging.getLogger("nimbed")

# While queries keep coming, a document batch holds half of the token budget at most, and no more than the engine
# computes in this time: a query waits less for its end.
_SLICE_S = 0.02
_QUERIES_KEEP_COMING_S = 1.0
# How much the latest batch of documents says of the engine's speed.
_LATEST = 0.2
# Documents that wait get at least this share of the engine's time, however many queries come.
_DOCUMENTS_SHARE = 0.2
# An engine that hangs must not hang the end of the process.
_JOIN_S = 10.0


class Scheduler:
    """Runs batches on one session, in a thread of its own.

    No fixed wait: when the session is free, it takes what is there.

    Args:
        session: used by the worker thread alone.
        shapes: the backend's batch shapes.
        dim: width of the session's vectors.
        on_batch: called after each batch, on the worker thread.
        clock: seconds.
    """

    def __init__(
        self,
        session: Session,
        shapes: ShapePolicy,
        dim: int,
        *,
        on_batch: Callable[[BatchRecord], None],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._session = session
        self._shapes = shapes
        self._dim = dim
        self._on_batch = on_batch
        self._clock = clock
        self._lanes: dict[Role, Lane] = {
            "query": Lane(shapes, ahead=False),
            "document": Lane(shapes, ahead=True),
        }
        self._warm: deque[TokenBatch] = deque()
        self._last_query = -np.inf
        self._query_s = self._document_s = 0.0
        self._token_s: float | None = None
        self._wake = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="nimbed-worker", daemon=True)
        self._thread.start()

    def submit(
        self,
        sequences: Sequence[Int32Array],
        role: Role,
        *,
        future: Future[Any] | None = None,
        finish: Callable[[Float32Array], Any] = lambda vectors: vectors,
    ) -> Future[Any]:
        """A future of ``finish(vectors)``, float32 ``[len(sequences), dim]`` in the order of the sequences.

        Args:
            sequences: token ids.
            role: queries go first.
            future: to be resolved; cancelling it takes the rows that have not started out of the queue.
            finish: called on the worker thread.

        Raises:
            ClosedError: the scheduler was closed.
        """
        vectors = np.empty((len(sequences), self._dim), np.float32)
        request = Request(sequences=sequences, vectors=vectors, finish=finish, future=future or Future())
        with self._wake:
            if self._closed:
                raise ClosedError("this encoder is closed")
            if role == "query":
                self._last_query = self._clock()
            if sequences:
                self._lanes[role].put(request)
                self._wake.notify()
        if not sequences:
            request.complete()
        return request.future

    def warm(self, sequences: Sequence[Int32Array]) -> None:
        """Run each sequence alone when nothing else waits, so that its shape is compiled before it is needed."""
        with self._wake:
            self._warm.extend(TokenBatch.from_sequences([sequence]) for sequence in sequences)
            self._wake.notify()

    def depth(self, role: Role) -> int:
        """Sequences of this role that wait."""
        with self._wake:
            return self._lanes[role].depth

    def close(self) -> None:
        """Stop after the batch that runs now; calls that wait fail with ClosedError."""
        with self._wake:
            self._closed = True
            left = [request for lane in self._lanes.values() for request in lane.drain()]
            self._wake.notify()
        for request in left:
            request.fail(ClosedError("this encoder was closed before the call was done"))
        if threading.current_thread() is not self._thread:
            self._thread.join(_JOIN_S)

    def _work(self) -> None:
        while (turn := self._next()) is not None:
            if isinstance(turn, TokenBatch):
                self._run_warm(turn)
            else:
                self._run(*turn)
            del turn  # an idle worker must not keep the last caller's vectors

    def _next(self) -> tuple[Role, Batch] | TokenBatch | None:
        with self._wake:
            while not self._closed:
                for role in self._order():
                    shapes = self._slices() if role == "document" and self._queries_keep_coming() else None
                    if (batch := self._lanes[role].take(shapes)) is not None:
                        return role, batch
                if self._warm:
                    return self._warm.popleft()
                self._wake.wait()
        return None

    def _order(self) -> tuple[Role, Role]:
        """Queries first, unless documents have waited for their share of the time."""
        owed = self._query_s * _DOCUMENTS_SHARE / (1 - _DOCUMENTS_SHARE)
        return ("document", "query") if self._lanes["document"] and owed > self._document_s else ("query", "document")

    def _queries_keep_coming(self) -> bool:
        return self._clock() - self._last_query < _QUERIES_KEEP_COMING_S

    def _slices(self) -> ShapePolicy:
        """Smaller batches of documents; how small, the engine's speed on those before tells."""
        budget = self._shapes.token_budget // 2
        if self._token_s is not None:
            budget = min(budget, int(_SLICE_S / self._token_s))
        return replace(self._shapes, token_budget=max(1, budget))

    def _run(self, role: Role, batch: Batch) -> None:
        started = self._clock()
        results = self._attempt(batch, split=False)
        seconds = self._clock() - started
        lengths = [len(sequence) for sequence in batch.sequences]
        padded = len(lengths) * self._shapes.pad_to(max(lengths), rows=len(lengths))
        if role == "document":
            self._document_s, self._query_s = seconds, 0.0
            before = seconds / padded if self._token_s is None else self._token_s
            self._token_s = max(1e-9, before + _LATEST * (seconds / padded - before))
        elif self._lanes["document"]:
            self._query_s += seconds
        record = BatchRecord(
            role=role,
            rows=len(lengths),
            tokens=sum(lengths),
            padded_tokens=padded,
            seconds=seconds,
        )
        self._on_batch(record)  # before the callers wake, who may look at the counts
        for part, vectors in results:
            for (request, index), vector in zip(part.rows, vectors, strict=True):
                request.put(index, vector)

    def _attempt(self, batch: Batch, *, split: bool) -> list[tuple[Batch, Float32Array]]:
        """The batch's vectors; where it fails, those of its parts that do not."""
        try:
            vectors = self._session.run(TokenBatch.from_sequences(batch.sequences))
            if vectors.shape != (len(batch.rows), self._dim):
                raise BackendError(f"the engine gave vectors of shape {vectors.shape} for {len(batch.rows)} texts")  # noqa: TRY301
        except Exception as err:
            parts = batch.halves() if isinstance(err, MemoryError) and not split else batch.by_request()
            if len(parts) < 2:
                batch.fail(err)
                return []
            logger.debug("a batch of %d rows failed and is tried in parts", len(batch.rows), exc_info=err)
            return [result for part in parts for result in self._attempt(part, split=True)]
        return [(batch, vectors)]

    def _run_warm(self, batch: TokenBatch) -> None:
        try:
            self._session.run(batch)
        except Exception:  # a shape that cannot be warmed will raise where it is used
            logger.debug("warming a shape failed", exc_info=True)
