"""Whether a call was made from within another call on the same thread."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

# Modules that may hold a lock, or in which other threads wait for what this thread has begun.
INNER = frozenset(
    f"nimbed.{name}"
    for name in (
        "_cache.lru", "_promise", "_serving.admission_limit", "_serving.block", "_serving.call", "_serving.queues",
        "_serving.runtime", "_serving.scheduler", "_serving.scheduler_state", "_serving.stats", "_serving.waiting",
        "_serving.worker_thread",
    )
)  # fmt: skip


def within_a_call() -> bool:
    """Whether the caller runs on top of another call of this thread.

    A signal handler does, a hook of ``on_batch``, or a finalizer that the garbage collector started. It must not wait:
    the thread that it waits for may be waiting for the call beneath it.
    """
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 (inspect, which has it too, takes long to import)
    between = False  # a frame that is none of nimbed's lies on top of this one
    while frame is not None:
        inner = frame.f_globals.get("__name__") in INNER
        if between and inner:
            return True
        between, frame = between or not inner, frame.f_back
    return False
