"""A bounded house before the queue: who finds it full waits outside, first come first served."""

from __future__ import annotations

import threading
from collections import deque

from nimbed._promise import Promise


class Ticket:
    """A piece of work at a gate.

    Attributes:
        amount: of it, in the gate's unit.
        place: done when the gate has let it in.
        within: whether it counts as within.
    """

    __slots__ = ("amount", "place", "within")

    def __init__(self, amount: int) -> None:
        self.amount = amount
        self.place: Promise[None] = Promise()
        self.within = False


class Gate:
    """Admits work until a limit is reached; a piece larger than the limit gets in when it is alone.

    One promise for each that waits, so threads and event loops wait alike. An interrupt may come between any two steps:
    what was let in says so itself, and leaving may be repeated.

    Args:
        limit: amount within, in characters of text.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._within = 0
        self._waiting: deque[Ticket] = deque()
        self._lock = threading.RLock()  # a signal handler may come from within
        self._error: Exception | None = None

    def enter(self, ticket: Ticket) -> Promise[None] | None:
        """None where there is room at once; else the ticket's place, which is done when it has been let in.

        Whatever comes of it, the ticket has to leave.

        Raises:
            Exception: what the gate was closed with.
        """
        with self._lock:
            if self._error is not None:
                raise self._error
            if not self._waiting and self._fits(ticket.amount):
                self._within += ticket.amount
                ticket.within = True
                return None
            self._waiting.append(ticket)
        return ticket.place

    def leave(self, ticket: Ticket) -> None:
        """The work is done with, or given up while it waited; those who wait may come in."""
        with self._lock:
            ticket.place.cancel()
            if ticket.within:
                self._within -= ticket.amount
                ticket.within = False
            self._admit()

    def close(self, error: Exception) -> None:
        """Fail all that wait, and all that come."""
        with self._lock:
            self._error = error
            for ticket in tuple(self._waiting):
                ticket.place.set_exception(error)
            self._waiting.clear()

    @property
    def waiting(self) -> int:
        """How many wait outside."""
        return len(self._waiting)

    @property
    def empty(self) -> bool:
        """Whether nothing is within."""
        return self._within == 0

    def _admit(self) -> None:
        """Under the lock; goes on where an interrupt stopped it."""
        while self._waiting:
            ticket = self._waiting[0]
            if not ticket.within and not ticket.place.done():
                if not self._fits(ticket.amount):
                    return
                self._within += ticket.amount
                ticket.within = True
            ticket.place.set_result(None)
            if self._waiting and self._waiting[0] is ticket:
                del self._waiting[0]

    def _fits(self, amount: int) -> bool:
        return self._within == 0 or self._within + amount <= self._limit
