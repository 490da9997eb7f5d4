"""The cache's shared tier: it may delay an embedding call by a stated time, and never fails or falsifies one."""

from __future__ import annotations

import logging
import re
import threading
from collections import deque
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from nimbed._cache.breaker import Breaker
from nimbed._cache.lru import Entry, TierStats
from nimbed._cache.store_thread import StoreThread

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nimbed._cache.stored_values import Seal
    from nimbed._cache.stores import Store

logger = logging.getLogger("nimbed")

# Counts that wait before they are summed up.
_MAX_COUNTS = 100
_REFUSAL = re.compile(r"[A-Z]{3,16}\b")


class GuardedTier:
    """A store behind a thread with time limits, a circuit breaker, and values whose damage is detected.

    An operation takes at most twice ``timeout_s``; after one that failed the store is not asked for a while.

    Args:
        store: that holds the values.
        name: of the place, without credentials.
        seal: makes the values, and knows those that nobody else made.
        timeout_s: no retry begins later than this.
    """

    def __init__(
        self, store: Store, *, name: str, seal: Seal, timeout_s: float, breaker: Breaker | None = None
    ) -> None:
        self._seal = seal
        # The store's thread counts too, and must not wait for a caller whose thread runs a signal handler.
        self._counts: deque[dict[str, int]] = deque()
        self._lock = threading.Lock()
        self._stats = TierStats(name=name)
        self._warned: set[str] = set()
        self._thread = StoreThread(
            store, timeout_s=timeout_s, breaker=breaker or Breaker(), failed=self._failed, wrote=self._wrote
        )

    def get(self, keys: Sequence[bytes]) -> list[Entry | None]:
        """Entries in the order of the keys; None for what is missing, damaged, or can't be had now."""
        values = (self._thread.get(keys) if keys else None) or [None] * len(keys)
        found = [self._seal.unpack(key, value) for key, value in zip(keys, values, strict=True)]
        hits = sum(entry is not None for entry in found)
        damaged = sum(value is not None for value in values) - hits
        self._count(hits=hits, misses=len(keys) - hits, damaged=damaged)
        if damaged:
            self._log(
                "damaged", "%s: %d damaged values are computed anew; further ones are counted in stats()", damaged
            )
        return found

    def put(self, entries: Mapping[bytes, Entry]) -> None:
        """Queue entries to be written; where the queue is full, they are dropped."""
        self._thread.put({key: self._seal.pack(key, entry) for key, entry in entries.items()})

    def stats(self) -> TierStats:
        """What it did."""
        self._sum_up(wait_s=0.1)
        return replace(self._stats, state="down" if self._thread.down else "up")

    def close(self) -> None:
        """Write what waits, for two seconds at most; the rest is dropped."""
        self._thread.close()

    def _failed(self, error: BaseException) -> None:
        self._count(failures=1)
        # Only the class, and Redis's own word for a refusal (DENIED, MISCONF): a message may quote what was sent.
        kind, said = type(error).__name__, _REFUSAL.match(str(error))
        what = f"{kind}: {said[0]}" if said and kind == "ResponseError" else kind
        self._log("failed", "%s failed (%s); embeddings go on without it, and it is tried again later", what)

    def _wrote(self, values: int, done: bool) -> None:
        self._count(**{"written" if done else "dropped": values})

    def _log(self, event: str, message: str, detail: object) -> None:
        """Warn when an event comes for the first time."""
        level = logging.INFO if event in self._warned else logging.WARNING
        self._warned.add(event)
        with suppress(Exception):  # of a handler: that, too, must not fail an embedding
            logger.log(level, message, self._stats.name, detail)

    def _count(self, **more: int) -> None:
        self._counts.append(more)
        if len(self._counts) > _MAX_COUNTS:
            self._sum_up()

    def _sum_up(self, wait_s: float = 0.0) -> None:
        """Unless someone does it already."""
        if not self._lock.acquire(timeout=wait_s):
            return
        try:
            for more in [self._counts.popleft() for _ in range(len(self._counts))]:
                sums = {name: getattr(self._stats, name) + n for name, n in more.items()}
                self._stats = replace(self._stats, **sums)
        finally:
            self._lock.release()


class OffTier:
    """In place of a tier that this process can't use; ``stats`` says why."""

    def __init__(self, name: str, reason: str) -> None:
        self._stats = TierStats(name=name, state=f"off: {reason}")

    def get(self, keys: Sequence[bytes]) -> list[Entry | None]:
        """Nothing."""
        return [None] * len(keys)

    def put(self, entries: Mapping[bytes, Entry]) -> None:
        """Nothing is kept."""

    def stats(self) -> TierStats:
        """Why it is off."""
        return self._stats

    def close(self) -> None:
        """Nothing is held."""
