"""One worker thread before the backend: batches of all callers, queries first at every batch boundary."""

from __future__ import annotations

import itertools
import logging
import queue
import threading
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from nimbed._plan import PlannedBatch, plan
from nimbed._types import Float32Array, Int32Array, TokenBatch
from nimbed.errors import ClosedError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nimbed._types import Role, Session, ShapePolicy

logger = logging.getLogger("nimbed")

_PRIORITY: dict[str, int] = {"query": 0, "document": 1}
_WARM, _STOP = 2, -1


@dataclass(eq=False, kw_only=True)
class _Request:
    """Sequences of one call, their vectors as they come, and the future that waits for the last."""

    sequences: Sequence[Int32Array]
    vectors: Float32Array
    batches_left: int
    future: Future[Float32Array] = field(default_factory=Future)

    def fail(self, error: BaseException) -> None:
        if not self.future.done() and self.future.set_running_or_notify_cancel():
            self.future.set_exception(error)


@dataclass(order=True)
class _Job:
    priority: int
    number: int
    request: _Request | None = field(default=None, compare=False)
    batch: PlannedBatch | None = field(default=None, compare=False)
    warm: Callable[[], object] | None = field(default=None, compare=False)


class Scheduler:
    """Runs batches on one session, in a thread of its own.

    Args:
        session: used by the worker thread alone.
        shapes: the backend's batch shapes.
        dim: width of the session's vectors.
        on_batch: called after each batch, on the worker thread.
    """

    def __init__(
        self, session: Session, shapes: ShapePolicy, dim: int, *, on_batch: Callable[[PlannedBatch], None]
    ) -> None:
        self._session = session
        self._shapes = shapes
        self._dim = dim
        self._on_batch = on_batch
        self._jobs: queue.PriorityQueue[_Job] = queue.PriorityQueue()
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="nimbed-worker", daemon=True)
        self._thread.start()

    def submit(self, sequences: Sequence[Int32Array], role: Role) -> Future[Float32Array]:
        """Vectors of the sequences, float32 ``[len(sequences), dim]`` in their order, when the future is done.

        Cancelling the future takes the batches that have not started out of the queue.

        Raises:
            ClosedError: the scheduler was closed.
        """
        batches = plan([len(s) for s in sequences], self._shapes)
        vectors = np.empty((len(sequences), self._dim), np.float32)
        request = _Request(sequences=sequences, vectors=vectors, batches_left=len(batches))
        if not batches:
            request.future.set_result(vectors)
        with self._lock:
            if self._closed:
                raise ClosedError("this encoder is closed")
            for batch in batches:
                self._jobs.put(_Job(_PRIORITY[role], next(self._numbers), request, batch))
        return request.future

    def warm(self, sequences: Sequence[Int32Array]) -> None:
        """Run each sequence alone when nothing else waits, so that its shape is compiled before it is needed."""
        for sequence in sequences:
            batch = TokenBatch.from_sequences([sequence])
            self._jobs.put(_Job(_WARM, next(self._numbers), warm=partial(self._session.run, batch)))

    def close(self) -> None:
        """Stop after the batch that runs now; calls that wait fail with ClosedError."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._jobs.put(_Job(_STOP, next(self._numbers)))
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _work(self) -> None:
        while (job := self._jobs.get()).priority != _STOP:
            if job.warm is not None:
                self._run_warm(job.warm)
            elif job.request is not None and job.batch is not None and not job.request.future.done():
                self._run_batch(job.request, job.batch)
        while not self._jobs.empty():
            if (left := self._jobs.get().request) is not None:
                left.fail(ClosedError("this encoder was closed before the call was done"))

    def _run_batch(self, request: _Request, batch: PlannedBatch) -> None:
        try:
            tokens = TokenBatch.from_sequences([request.sequences[i] for i in batch.indices])
            request.vectors[batch.indices] = self._session.run(tokens)
        except Exception as err:  # noqa: BLE001 (whatever an engine raises belongs to the caller, not to this thread)
            request.fail(err)
            return
        self._on_batch(batch)
        request.batches_left -= 1
        if request.batches_left == 0 and request.future.set_running_or_notify_cancel():
            request.future.set_result(request.vectors)

    @staticmethod
    def _run_warm(warm: Callable[[], object]) -> None:
        try:
            warm()
        except Exception:  # a shape that cannot be warmed will raise where it is used
            logger.debug("warming a shape failed", exc_info=True)
