"""Requests of many callers in, merged batches out: one queue for queries, one for documents."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from nimbed._promise import Promise
from nimbed._serving.plan import plan

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nimbed._types import Float32Array, Int32Array, Role
    from nimbed.backends.shapes import ShapePolicy

# Batches that are planned together: more rows of like length, but later callers wait for them.
_WINDOW_BATCHES = 128
# Rows of one request that are planned together, so that a long request does not keep the others out.
_MAX_REQUEST_ROWS = 512


def unchanged(vectors: Float32Array) -> Float32Array:
    """What is submitted without a function that finishes its vectors gets them as they are."""
    return vectors


@dataclass(eq=False)
class Request:
    """Sequences of one caller, their vectors as they come, and the promise that waits for the last.

    Attributes:
        sequences: token ids.
        vectors: float32 ``[len(sequences), dim]``.
        finish: makes the promise's result of the vectors.
        promise: cancelling it takes out the rows that have not started.
        planned: sequences that are in batches, or about to be.
    """

    sequences: Sequence[Int32Array]
    vectors: Float32Array
    finish: Callable[[Float32Array], Any] = unchanged
    promise: Promise[Any] = field(default_factory=Promise)
    planned: int = 0
    _rows_done: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def done(self) -> bool:
        """Whether it has an outcome: nobody waits for its other rows."""
        return self.promise.done()

    def put(self, index: int, vector: Float32Array) -> None:
        """Take the vector of one sequence; with the last one the promise is done."""
        self.vectors[index] = vector
        with self._lock:  # rows may be in batches that end at the same time
            self._rows_done += 1
            done = self._rows_done
        if done == len(self.sequences):
            self.complete()

    def complete(self) -> None:
        """Finish the vectors and resolve the promise."""
        if self.done:
            return
        try:
            result = self.finish(self.vectors)
        except Exception as err:  # noqa: BLE001 (it belongs to the caller, not to this thread)
            self.promise.set_exception(err)
        else:
            self.promise.set_result(result)

    def fail(self, error: BaseException) -> None:
        """Let the caller have an error, unless there is an outcome."""
        self.promise.set_exception(error)


# A request and the number of its sequence.
Row = tuple[Request, int]


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Rows that run together, of one or many requests of one role."""

    role: Role
    rows: list[Row]

    @property
    def sequences(self) -> list[Int32Array]:
        """Token ids of each row."""
        return [request.sequences[index] for request, index in self.rows]

    @property
    def tokens(self) -> int:
        """Of all rows."""
        return sum(map(len, self.sequences))

    def pending(self) -> Batch:
        """Without the rows that nobody waits for any more."""
        rows = [row for row in self.rows if not row[0].done]
        return self if len(rows) == len(self.rows) else replace(self, rows=rows)

    def halves(self) -> list[Batch]:
        """Two batches of half the rows; one row cannot be halved."""
        middle = len(self.rows) // 2
        return [replace(self, rows=rows) for rows in (self.rows[:middle], self.rows[middle:]) if rows]

    def by_request(self) -> list[Batch]:
        """One batch for each caller."""
        parts: dict[int, list[Row]] = {}
        for row in self.rows:
            parts.setdefault(id(row[0]), []).append(row)
        return [replace(self, rows=rows) for rows in parts.values()]

    def fail(self, error: BaseException) -> None:
        """Each caller gets the error."""
        for request, _ in self.rows:
            request.fail(error)


class RequestQueue:
    """What waits in one role. Not thread-safe: the scheduler uses it under its lock.

    Args:
        role: of all that waits.
        shapes: the engine's budget and buckets.
        ahead: plan many batches at once, so that rows of like length meet; else one batch at a time around the row
            that has waited longest, so that what came meanwhile fills it.
    """

    def __init__(self, role: Role, shapes: ShapePolicy, *, ahead: bool) -> None:
        self._role = role
        self._shapes = shapes
        self._ahead = ahead
        self._waiting: deque[Request] = deque()
        self._left_over: list[Row] = []
        self._ready: deque[Batch] = deque()

    def __bool__(self) -> bool:
        return bool(self._ready or self._left_over or self._waiting)

    @property
    def depth(self) -> int:
        """Sequences that wait, of calls that somebody still waits for."""
        planned = sum(len(batch.pending().rows) for batch in self._ready)
        left_over = sum(not request.done for request, _ in self._left_over)
        waiting = sum(len(one.sequences) - one.planned for one in self._waiting if not one.done)
        return planned + left_over + waiting

    def put(self, request: Request) -> None:
        """Append a request."""
        self._waiting.append(request)

    @property
    def is_one_batch(self) -> bool:
        """Whether all that waits runs together."""
        if not self._ready and self:
            self._plan()
        return len(self._ready) == 1 and not self._waiting and not self._left_over

    def first(self) -> Batch | None:
        """The next batch, which stays in the queue; None where nobody waits any more."""
        while self:
            if not self._ready:
                self._plan()
                continue
            batch = self._ready[0].pending()
            if batch.rows:
                return batch
            del self._ready[0]
        return None

    def remove_first(self) -> None:
        """Take out the batch that :meth:`first` gave, unless a finalizer on this thread has drained the queue."""
        if self._ready:
            del self._ready[0]

    def drain(self) -> list[Request]:
        """All requests that wait, each once; the queue is empty then."""
        rows = [*self._left_over, *(row for batch in self._ready for row in batch.rows)]
        left = {id(request): request for request in [*self._waiting, *(row[0] for row in rows)]}
        self._waiting.clear()
        self._left_over.clear()
        self._ready.clear()
        return list(left.values())

    def _plan(self) -> None:
        """Make batches of what waits. Where that fails no request has left the queue."""
        rows, waiting = self._window()
        left_over: list[Row] = []
        if len(rows) == 1:  # as most queries come
            ready = deque([Batch(role=self._role, rows=rows)])
        else:
            batches = plan([len(request.sequences[index]) for request, index in rows], self._shapes)
            if not self._ahead:
                batches = [batch for batch in batches if 0 in batch]
                planned = {int(i) for batch in batches for i in batch}
                left_over = [row for i, row in enumerate(rows) if i not in planned]
            ready = deque(Batch(role=self._role, rows=[rows[i] for i in batch]) for batch in batches)
        self._waiting, self._left_over, self._ready = waiting, left_over, ready

    def _window(self) -> tuple[list[Row], deque[Request]]:
        """Rows that are planned together, those that have waited longest first; and the requests that wait then."""
        waiting = self._waiting.copy()
        rows = [row for row in self._left_over if not row[0].done]
        tokens = sum(len(request.sequences[index]) for request, index in rows)
        while waiting and tokens < _WINDOW_BATCHES * self._shapes.token_budget:
            request = waiting.popleft()
            if request.done:
                continue
            first, request.planned = request.planned, min(request.planned + _MAX_REQUEST_ROWS, len(request.sequences))
            rows += [(request, index) for index in range(first, request.planned)]
            tokens += sum(map(len, request.sequences[first : request.planned]))
            if request.planned < len(request.sequences):
                waiting.append(request)
        return rows, waiting
