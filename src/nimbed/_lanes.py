"""Requests of many callers in, merged batches out: one lane for queries, one for documents."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from nimbed._plan import plan

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nimbed._shapes import ShapePolicy
    from nimbed._types import Float32Array, Int32Array, Role

# Batches that are planned together: more rows of like length, but a caller who comes later waits for them.
_WINDOW_BATCHES = 128
# Rows of one request in a window, so that a long one does not keep the others out.
_SHARE_ROWS = 512


@dataclass(eq=False, kw_only=True)
class Request:
    """Sequences of one caller, their vectors as they come, and the future that waits for the last.

    Attributes:
        sequences: token ids.
        vectors: float32 ``[len(sequences), dim]``.
        finish: makes the future's result of the vectors.
        future: cancelling it takes out the rows that have not started.
    """

    sequences: Sequence[Int32Array]
    vectors: Float32Array
    finish: Callable[[Float32Array], Any]
    future: Future[Any] = field(default_factory=Future)
    planned: int = 0
    _done: int = 0
    _told: bool = False
    _ended: bool = False
    _lock: threading.RLock = field(default_factory=threading.RLock)

    @property
    def over(self) -> bool:
        """Whether nobody waits for it any more."""
        if not self.future.done():
            return False
        with self._lock:
            if self.future.cancelled() and not self._told:
                self._told = True
                self.future.set_running_or_notify_cancel()
        return True

    def put(self, index: int, vector: Float32Array) -> None:
        """Take the vector of one sequence; with the last one the future is done."""
        self.vectors[index] = vector
        with self._lock:  # rows may be in batches that end at the same time
            self._done += 1
            last = self._done == len(self.sequences)
        if last:
            self.complete()

    def complete(self) -> None:
        """Finish the vectors and resolve the future."""
        if not self._end():
            return
        try:
            self.future.set_result(self.finish(self.vectors))
        except Exception as err:  # noqa: BLE001 (it belongs to the caller, not to this thread)
            self.future.set_exception(err)

    def fail(self, error: BaseException) -> None:
        """Resolve the future with an error, unless it is resolved."""
        if self._end():
            self.future.set_exception(error)

    def _end(self) -> bool:
        """Whether the future is the asking thread's to resolve: one alone may, and nobody if it was cancelled."""
        with self._lock:
            if self._ended or self.over:
                return False
            self._ended = self.future.set_running_or_notify_cancel()
            self._told = not self._ended
            return self._ended


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

    def alive(self) -> Batch:
        """Without the rows that nobody waits for any more."""
        rows = [row for row in self.rows if not row[0].over]
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


class Lane:
    """What waits in one role. Not thread-safe: the scheduler's lock is around it.

    Args:
        role: of all that waits.
        shapes: the engine's budget and buckets.
        ahead: plan many batches at once, so that rows of like length meet; else each batch anew around the row that has
            waited longest, so that what came meanwhile fills it.
    """

    def __init__(self, role: Role, shapes: ShapePolicy, *, ahead: bool) -> None:
        self._role = role
        self._shapes = shapes
        self._ahead = ahead
        self._waiting: deque[Request] = deque()
        self._loose: list[Row] = []
        self._ready: deque[Batch] = deque()

    def __bool__(self) -> bool:
        return bool(self._ready or self._loose or self._waiting)

    @property
    def depth(self) -> int:
        """Sequences that wait."""
        planned = len(self._loose) + sum(len(batch.rows) for batch in self._ready)
        return planned + sum(len(request.sequences) - request.planned for request in self._waiting)

    def put(self, request: Request) -> None:
        """Let a request wait."""
        self._waiting.append(request)

    @property
    def is_one_batch(self) -> bool:
        """Whether all that waits runs together."""
        if not self._ready and self:
            self._plan()
        return len(self._ready) == 1 and not self._waiting and not self._loose

    def take(self) -> Batch | None:
        """The next batch, or None where nobody waits any more."""
        while self:
            if not self._ready:
                self._plan()
            elif (batch := self._ready.popleft().alive()).rows:
                return batch
        return None

    def drain(self) -> list[Request]:
        """All requests that wait, each once; the lane is empty then."""
        rows = [*self._loose, *(row for batch in self._ready for row in batch.rows)]
        left = {id(request): request for request in [*self._waiting, *(row[0] for row in rows)]}
        self._waiting.clear()
        self._loose.clear()
        self._ready.clear()
        return list(left.values())

    def _plan(self) -> None:
        rows = self._window()
        if len(rows) == 1:  # as most queries come
            self._ready.append(Batch(role=self._role, rows=rows))
            return
        batches = plan([len(request.sequences[index]) for request, index in rows], self._shapes)
        if not self._ahead:
            batches = [batch for batch in batches if 0 in batch]
            planned = {int(i) for batch in batches for i in batch}
            self._loose = [row for i, row in enumerate(rows) if i not in planned]
        for batch in batches:
            self._ready.append(Batch(role=self._role, rows=[rows[i] for i in batch]))

    def _window(self) -> list[Row]:
        """Rows that are planned together, those that have waited longest first."""
        rows, self._loose = [row for row in self._loose if not row[0].over], []
        tokens = sum(len(request.sequences[index]) for request, index in rows)
        while self._waiting and tokens < _WINDOW_BATCHES * self._shapes.token_budget:
            request = self._waiting.popleft()
            if request.over:
                continue
            first, request.planned = request.planned, min(request.planned + _SHARE_ROWS, len(request.sequences))
            rows += [(request, index) for index in range(first, request.planned)]
            tokens += sum(map(len, request.sequences[first : request.planned]))
            if request.planned < len(request.sequences):
                self._waiting.append(request)
        return rows
