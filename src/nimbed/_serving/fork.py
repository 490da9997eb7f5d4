"""Objects whose threads and locks are invalid in a forked child, and are reset there."""

from __future__ import annotations

import os
import threading
import weakref
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping

T = TypeVar("T")
_resets: MutableMapping[object, Callable[[object], None]] = weakref.WeakKeyDictionary()
# What a parent's object held stays referenced in the child: an engine cannot be torn down without its threads.
_inherited: list[object] = []
_process = os.getpid()
_locks: dict[int, threading.RLock] = {}


def reset_in_child(thing: T, reset: Callable[[T], None]) -> None:
    """After a fork, ``reset(thing)`` is called in the child."""
    _resets[thing] = reset  # type: ignore[assignment]


def notice() -> None:
    """Reset now where this process is a fork that Python does not know of, since C code called ``fork``."""
    process = os.getpid()
    if process != _process:
        # One lock for each process: another thread of the parent may have held it.
        with _locks.setdefault(process, threading.RLock()):
            if process != _process:
                _after_fork()


def _after_fork() -> None:
    global _process  # noqa: PLW0603 (there is one process)
    _process = os.getpid()
    for thing, reset in list(_resets.items()):
        _inherited.append(dict(thing.__dict__))
        reset(thing)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
