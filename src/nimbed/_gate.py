"""A bounded house before the queue: who finds it full waits outside, first come first served."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future


class Gate:
    """Admits work until a limit is reached; a piece larger than the limit gets in when it is alone.

    One future for each that waits, so threads and event loops wait alike.

    Args:
        limit: amount within, in characters of text.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._within = 0
        self._waiting: deque[tuple[int, Future[None]]] = deque()
        self._lock = threading.Lock()
        self._error: Exception | None = None

    def enter(self, amount: int) -> Future[None] | None:
        """None where there is room at once; else a future that is done when the amount has been let in.

        Who gives up cancels the future; where that fails, the amount was let in and has to leave again.

        Raises:
            Exception: what the gate was closed with.
        """
        with self._lock:
            if self._error is not None:
                raise self._error
            if not self._waiting and self._fits(amount):
                self._within += amount
                return None
            place: Future[None] = Future()
            self._waiting.append((amount, place))
            return place

    def leave(self, amount: int) -> None:
        """The amount is done with; those who wait may come in."""
        admitted: list[Future[None]] = []
        with self._lock:
            self._within -= amount
            while self._waiting and self._fits(self._waiting[0][0]):
                wanted, place = self._waiting.popleft()
                if place.set_running_or_notify_cancel():
                    self._within += wanted
                    admitted.append(place)
        for place in admitted:  # outside the lock: callbacks run here
            place.set_result(None)

    def close(self, error: Exception) -> None:
        """Fail all that wait, and all that come."""
        with self._lock:
            self._error = error
            left, self._waiting = self._waiting, deque()
        for _, place in left:
            if place.set_running_or_notify_cancel():
                place.set_exception(error)

    @property
    def waiting(self) -> int:
        """How many wait outside."""
        return len(self._waiting)

    def _fits(self, amount: int) -> bool:
        return self._within == 0 or self._within + amount <= self._limit
