"""Run batches in a session, report them, and deliver their vectors."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

import numpy as np

from nimbed._serving.queues import Batch, Request
from nimbed._types import BatchRecord, TokenBatch
from nimbed.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from nimbed._types import Float32Array, Int32Array, Role
    from nimbed.backends.protocol import Session
    from nimbed.backends.shapes import ShapePolicy

logger = logging.getLogger("nimbed")

# Batches that ran, or parts of one that failed, with their vectors.
Results = list[tuple[Batch, "Float32Array"]]


class Runner:
    """Runs batches and reports them.

    Args:
        dim: width of the sessions' vectors.
        shapes: of each role's batches.
        on_batch: called after each batch, on the thread that ran it.
    """

    def __init__(self, dim: int, shapes: Mapping[Role, ShapePolicy], on_batch: Callable[[BatchRecord], None]) -> None:
        self._dim = dim
        self._shapes = shapes
        self._on_batch = on_batch

    def run(self, batch: Batch, session: Session) -> Results:
        """The batch's vectors; the batch is reported."""
        started = time.perf_counter()
        results = self.attempt(batch, session)
        lengths = [len(sequence) for sequence in batch.sequences]
        shapes = self._shapes[batch.role]
        record = BatchRecord(
            role=batch.role,
            rows=len(lengths),
            tokens=sum(lengths),
            padded_tokens=len(lengths) * shapes.pad_to(max(lengths), rows=len(lengths)),
            seconds=time.perf_counter() - started,
        )
        self._on_batch(record)  # before the callers wake, since they may look at the counts
        return results

    def run_unqueued(self, sequences: Sequence[Int32Array], role: Role, session: Session) -> Float32Array:
        """Vectors ``[n, dim]``, one sequence after another on this thread, without a queue: it waits for nothing."""
        request = Request(sequences, np.empty((len(sequences), self._dim), np.float32))
        for index in range(len(sequences)):
            deliver(self.attempt(Batch(role=role, rows=[(request, index)]), session))
        vectors: Float32Array = request.promise.result()
        return vectors

    def attempt(self, batch: Batch, session: Session, *, split: bool = False) -> Results:
        """The batch's vectors; where it fails, those of its parts that do not."""
        try:
            vectors = session.run(TokenBatch.from_sequences(batch.sequences, batch.role))
            if vectors.shape != (len(batch.rows), self._dim):
                raise BackendError(f"the engine gave vectors of shape {vectors.shape} for {len(batch.rows)} texts")  # noqa: TRY301
        except Exception as err:
            parts = batch.halves() if isinstance(err, MemoryError) and not split else batch.by_request()
            if len(parts) < 2:
                batch.fail(err)
                return []
            logger.debug("a batch of %d rows failed and is tried in parts", len(batch.rows), exc_info=err)
            return [result for part in parts for result in self.attempt(part, session, split=True)]
        return [(batch, vectors)]


def warm_up(session: Session, batch: TokenBatch) -> Results:
    """Run a shape so that it is compiled; there is nothing to deliver."""
    try:
        session.run(batch)
    except Exception:  # a shape that fails here will raise where it is used
        logger.debug("warming a shape failed", exc_info=True)
    return []


def deliver(results: Results) -> None:
    """Give vectors to their callers."""
    try:
        for batch, vectors in results:
            for (request, index), vector in zip(batch.rows, vectors, strict=True):
                request.put(index, vector)
    except BaseException as err:
        for batch, _ in results:
            batch.fail(for_others(err))
        raise


def for_others(error: BaseException) -> Exception:
    """The error for callers on other threads: what ends a thread or a program must not end theirs."""
    if isinstance(error, Exception):
        return error
    stopped = BackendError(f"the thread that computed this was stopped by {error!r}")
    stopped.__cause__ = error
    return stopped
