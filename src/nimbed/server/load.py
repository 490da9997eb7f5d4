"""What the server has taken on: a bound on it, and its end. The queue itself is the scheduler's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nimbed.server.errors import retry_later

if TYPE_CHECKING:
    from nimbed.server.settings import Limits


class Load:
    """Counts requests, and the bytes of their bodies and answers; used on the event loop alone.

    Attributes:
        requests: that are answered or wait.
        draining: whether the server was told to stop.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._bytes = 0
        self.requests = 0
        self.draining = False

    def enter(self) -> None:
        """Take one more request, which has to :meth:`leave`.

        Also while the server drains: what its connections had read by then is answered, and there will be no others.

        Raises:
            ApiError: the queue is full.
        """
        if self.requests >= self._limits.queue:
            raise retry_later("overloaded", f"the queue is full ({self._limits.queue} requests)")
        self.requests += 1

    def hold(self, size: int) -> None:
        """Take some bytes of a body.

        Raises:
            ApiError: there are too many of others.
        """
        if self._bytes and self._bytes + size > self._limits.held_bytes:
            raise retry_later("overloaded", "other requests' bodies and answers leave no room for this one")
        self._bytes += size

    def keep(self, size: int) -> None:
        """Take the bytes of an answer, which is there already and is not refused."""
        self._bytes += size

    def free(self, size: int) -> None:
        """Give bytes back."""
        self._bytes -= size

    def leave(self) -> None:
        """A request is done."""
        self.requests -= 1
