"""A circuit breaker: a store that failed is not asked for a while."""

from __future__ import annotations

import random
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 60.0


class Breaker:
    """Says for how long a store that failed is not asked: twice as long after each failure, up to a minute.

    Args:
        clock: seconds.
        jitter: 0 to 1, so that many processes do not come back at once.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, jitter: Callable[[], float] = random.random
    ) -> None:
        self._clock = clock
        self._jitter = jitter
        self._failures = 0
        self._closed_at = float("-inf")
        self._probing = False
        self._lock = threading.RLock()  # a signal handler may run on the thread that holds it

    @property
    def open(self) -> bool:
        """Whether the store is not asked now."""
        return self._clock() < self._closed_at

    def allows(self) -> bool:
        """Whether to try now. After a pause one caller may, and the others wait for its outcome."""
        if not self._failures:
            return True
        with self._lock:
            if self.open:
                return False
            self._closed_at = self._clock() + _FIRST_PAUSE_S
            self._probing = True
            return True

    def failed(self) -> bool:
        """Open it. Whether that is a new failure: one that several callers meet at once counts once."""
        with self._lock:
            if self.open and not self._probing:
                return False
            pause = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0**self._failures)
            self._failures = min(self._failures + 1, 10)
            self._probing = False
            self._closed_at = self._clock() + pause * (0.75 + 0.5 * self._jitter())
            return True

    def worked(self) -> None:
        """Close it."""
        if not self._failures:
            return
        with self._lock:
            self._failures, self._probing, self._closed_at = 0, False, float("-inf")
