"""An interrupt at the n-th place where one can come: what Ctrl-C does by chance, done to each place in turn.

CPython looks for signals when a Python function begins, when a call of a C function has returned and when a loop jumps
back; never else. A profiler hears of the first two at the very place (a tracer would be an instruction late, which may
be outside of a ``try``).
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path

import nimbed

NIMBED = tuple(
    str(Path(nimbed.__file__).parent / name)
    for name in (
        "_cache/lru.py", "_promise.py", "_serving/admission_limit.py", "_serving/block.py", "_serving/call.py",
        "_serving/open_model.py",
        "_serving/queues.py", "_serving/runner.py", "_serving/runtime.py", "_serving/scheduler.py",
        "_serving/scheduler_state.py", "_serving/stats.py",
        "_serving/waiting.py", "_serving/worker_thread.py", "_text/checks.py", "encoder.py",
    )
)  # fmt: skip
# Also where nimbed's locks, conditions and queues are Python's own code.
LIBRARY = tuple(sys.modules[name].__file__ for name in ("threading", "contextlib"))


class Interrupt:
    """Raises at the n-th place within some files, once.

    Args:
        at: number of the place, from 1 on.
        error: what is raised.
        files: whose places count.
    """

    def __init__(self, at: int, error: type[BaseException] = KeyboardInterrupt, files=NIMBED + LIBRARY) -> None:
        self.left = at
        self.place = None
        self._error, self._files = error, files

    @property
    def came(self) -> bool:
        """Whether there were so many places."""
        return self.place is not None

    def stop(self) -> None:
        """None comes any more."""
        self.left = 0

    def profile(self, frame, event, what) -> None:
        """For sys.setprofile."""
        if self.came or event not in {"call", "c_return"} or frame.f_code.co_filename not in self._files:
            return
        self.left -= 1
        if not self.left:
            of = f" after {what.__name__}" if event == "c_return" else ""
            self.place = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno} {frame.f_code.co_name}{of}"
            raise self._error

    @contextmanager
    def within(self):
        """For what runs in the block."""
        before = sys.getprofile()
        sys.setprofile(self.profile)
        try:
            yield
        finally:
            sys.setprofile(before)
