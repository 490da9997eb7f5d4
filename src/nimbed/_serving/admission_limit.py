"""A bound on what waits and runs: callers beyond it wait, first come, first served."""

from __future__ import annotations

import threading
from collections import deque

from nimbed._promise import Promise


class Ticket:
    """A piece of work that asks for admission.

    Attributes:
        amount: of it, in the limit's unit.
        admitted: done when it is admitted, or will never be.
        counted: whether it counts towards the limit.
    """

    __slots__ = ("admitted", "amount", "counted")

    def __init__(self, amount: int) -> None:
        self.amount = amount
        self.admitted: Promise[None] = Promise()
        self.counted = False


class AdmissionLimit:
    """Admits work up to a limit; a piece larger than the limit is admitted when there is no other.

    Each that waits has a promise, so threads and event loops wait alike. An interrupt may come between any two steps:
    each ticket says itself whether it counts, and releasing may be repeated.

    Args:
        limit: total amount, in characters of text.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._amount = 0
        self._waiting: deque[Ticket] = deque()
        self._lock = threading.RLock()  # a signal handler may run on the thread that holds it
        self._error: Exception | None = None

    def acquire(self, ticket: Ticket) -> Promise[None] | None:
        """None where there is room at once; else a promise that is done when the ticket is admitted.

        In either case, and also where this fails, the ticket has to be released.

        Raises:
            Exception: what the limit was closed with.
        """
        with self._lock:
            if self._error is not None:
                raise self._error
            if not self._waiting and self._fits(ticket.amount):
                self._amount += ticket.amount
                ticket.counted = True
                return None
            self._waiting.append(ticket)
        return ticket.admitted

    def release(self, ticket: Ticket) -> None:
        """The work is done, or was cancelled while it waited; others may be admitted."""
        with self._lock:
            ticket.admitted.cancel()
            if ticket.counted:
                self._amount -= ticket.amount
                ticket.counted = False
            self._admit()

    def close(self, error: Exception) -> None:
        """Fail all that wait, and all that come."""
        with self._lock:
            self._error = error
            for ticket in tuple(self._waiting):
                ticket.admitted.set_exception(error)
            self._waiting.clear()

    @property
    def waiting(self) -> int:
        """How many tickets wait."""
        return len(self._waiting)

    @property
    def empty(self) -> bool:
        """Whether nothing counts towards the limit."""
        return self._amount == 0

    def _admit(self) -> None:
        """Under the lock; goes on where an interrupt stopped it."""
        while self._waiting:
            ticket = self._waiting[0]
            if not ticket.counted and not ticket.admitted.done():
                if not self._fits(ticket.amount):
                    return
                self._amount += ticket.amount
                ticket.counted = True
            ticket.admitted.set_result(None)
            if self._waiting and self._waiting[0] is ticket:
                del self._waiting[0]

    def _fits(self, amount: int) -> bool:
        return self._amount == 0 or self._amount + amount <= self._limit
