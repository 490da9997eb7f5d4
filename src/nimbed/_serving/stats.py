"""What an encoder counts while it works."""

from __future__ import annotations

import logging
import threading
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

from nimbed._loading.settings import Latency

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nimbed._types import BatchRecord, Role

logger = logging.getLogger("nimbed")

_MAX_CALLS = 2048


class Meter:
    """Counters, latencies, and the hooks that are called after each batch. Thread-safe."""

    def __init__(self, hooks: list[Callable[[BatchRecord], None]]) -> None:
        self._lock = threading.Lock()
        self._counts = {"texts": 0, "tokens": 0, "padded_tokens": 0, "batches": 0, "truncated": 0}
        self._latencies: dict[Role, deque[float]] = {
            "document": deque(maxlen=_MAX_CALLS),
            "query": deque(maxlen=_MAX_CALLS),
        }
        self.hooks = hooks

    def call(self, role: Role, *, texts: int, truncated: int, seconds: float) -> None:
        """A call was answered."""
        with self._lock:  # no function is called here, so no signal handler can run and ask for the counts
            self._counts["texts"] += texts
            self._counts["truncated"] += truncated
        self._latencies[role].append(seconds)

    def batch(self, record: BatchRecord) -> None:
        """A batch was run."""
        with self._lock:
            self._counts["batches"] += 1
            self._counts["tokens"] += record.tokens
            self._counts["padded_tokens"] += record.padded_tokens
        for hook in tuple(self.hooks):
            try:
                hook(record)
            except BaseException as err:  # the engine's thread must go on, whatever a hook does
                if isinstance(err, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
                    raise  # the user's own Ctrl-C
                logger.exception("a batch hook failed and is removed")
                with suppress(ValueError):  # it was removed meanwhile
                    self.hooks.remove(hook)

    @property
    def counts(self) -> dict[str, int]:
        """The counters, by the names that :class:`nimbed.encoder.EncoderStats` has."""
        with self._lock:
            return {**self._counts}

    @property
    def latency_ms(self) -> dict[Role, Latency]:
        """By role, where there was a call."""
        latest = {role: sorted(seconds) for role, seconds in self._latencies.items() if seconds}
        return {role: Latency(*(round(1000 * _quantile(s, q), 4) for q in (0.5, 0.99))) for role, s in latest.items()}


def _quantile(ordered: Sequence[float], share: float) -> float:
    """Between the two nearest; numpy's own imports a module when first used, which a signal handler must not do."""
    at = (len(ordered) - 1) * share
    low = ordered[int(at)]
    return low + (ordered[min(int(at) + 1, len(ordered) - 1)] - low) * (at - int(at))
