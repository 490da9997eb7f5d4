"""Whether a call was made from within another one on the same thread."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

# Where locks may be held, and where others wait for what this thread has begun.
INNER = frozenset(
    f"nimbed.{name}"
    for name in (
        "_cache.lru", "_promise", "_serving.admission_limit", "_serving.block", "_serving.call", "_serving.queues",
        "_serving.runtime", "_serving.scheduler", "_serving.scheduler_state", "_serving.stats", "_serving.waiting",
        "_serving.worker_thread",
    )
)  # fmt: skip


def within_a_call() -> bool:
    """Whether this thread is in the midst of a call, on top of which runs what asks: a signal handler, a hook of
    ``on_batch``, or a finalizer that the garbage collector started. Such a one must wait for nobody: whom it waits for
    may be waiting for what lies beneath it.
    """  # noqa: D205 (one sentence)
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 (inspect, which has it too, takes long to import)
    outside = False
    while frame is not None:
        inner = frame.f_globals.get("__name__") in INNER
        if outside and inner:
            return True
        outside, frame = outside or not inner, frame.f_back
    return False
