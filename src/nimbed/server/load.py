"""What the server has taken on: a bound on it, and its end. The queue itself is the scheduler's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nimbed.server.errors import retry_later

if TYPE_CHECKING:
    from nimbed.server.settings import Limits


# What needs no more than this always finds room: the queue bounds how many do.
_LITTLE = 64 * 1024


class Load:
    """Counts requests, and the bytes of their bodies and answers; used on the event loop alone.

    Attributes:
        bytes: that requests hold.
        requests: that are answered or wait.
        draining: whether the server was told to stop.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.bytes = 0
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

    def leave(self) -> None:
        """A request is done."""
        self.requests -= 1

    def held(self) -> Held:
        """For one request."""
        return Held(self, self._limits.held_bytes)


class Held:
    """Bytes that one request holds: of its body first, and then of its answer until that is read.

    Args:
        load: of all.
        most: that all may hold at once.

    Attributes:
        size: how many.
    """

    __slots__ = ("_load", "_most", "size")

    def __init__(self, load: Load, most: int) -> None:
        self._load, self._most, self.size = load, most, 0

    def take(self, more: int) -> None:
        """Hold so many more.

        Raises:
            ApiError: others leave no room.
        """
        others, size = self._load.bytes - self.size, self.size + more
        if size > _LITTLE and others and others + size > self._most:
            raise retry_later("overloaded", "other requests' bodies and answers leave no room for this one")
        self.keep(size)

    def keep(self, size: int) -> None:
        """Hold so many, which are there already, in place of what it held."""
        self._load.bytes += size - self.size
        self.size = size
