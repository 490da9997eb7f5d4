"""What takes long in C++, on a thread of its own, so that this one hears of a signal meanwhile."""

from __future__ import annotations

import threading
from concurrent.futures import Future, wait
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

# A signal that another thread was given wakes nobody here.
_LISTENS_EVERY_S = 0.1


def apart(call: Callable[[], T]) -> T:
    """What the call returns, or raises.

    Python handles signals on its main thread, between two instructions: not while that computes in C++. Whatever a
    handler raises is raised here at once. The call then goes on to its end, which nobody waits for.
    """
    outcome: Future[T] = Future()

    def work() -> None:
        try:
            outcome.set_result(call())
        except BaseException as err:  # noqa: BLE001 (raised by who waits)
            outcome.set_exception(err)

    threading.Thread(target=work, daemon=True, name="nimbed-build").start()
    while not wait([outcome], timeout=_LISTENS_EVERY_S).done:
        pass
    return outcome.result()
