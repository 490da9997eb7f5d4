"""The cache's shared second tier: it may slow an embedding by a stated time, and never fails or falsifies one."""

from __future__ import annotations

import logging
import queue
import random
import struct
import threading
import time
import zlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, stop_after_delay, wait_random_exponential

from nimbed._cache import Entry, TierStats

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from nimbed._stores import Store

logger = logging.getLogger("nimbed")

# Format and type of the numbers, dimensions, tokens before truncation (0: none cut), checksum.
_HEADER = struct.Struct("<8sIII")
_FLOAT32 = b"nmb1 f32"
# Blocks that wait to be written; more are dropped, and counted.
_WAITING_BLOCKS = 32
_ATTEMPTS = 3
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 60.0
_CLOSE_S = 2.0


def pack(key: bytes, entry: Entry) -> bytes:
    """An entry as stored: header and float32 row. The checksum covers the key, so no entry passes for another's."""
    dim = len(entry.row) // 4
    begun = _HEADER.pack(_FLOAT32, dim, entry.cut, 0)
    return _HEADER.pack(_FLOAT32, dim, entry.cut, zlib.crc32(key + begun + entry.row)) + entry.row


def unpack(key: bytes, value: object, dim: int) -> Entry | None:
    """The entry, or None where the value is not exactly what :func:`pack` made for this key and width."""
    if not isinstance(value, bytes) or len(value) != _HEADER.size + 4 * dim:
        return None
    kind, width, cut, checksum = _HEADER.unpack_from(value)
    row = value[_HEADER.size :]
    if (kind, width) != (_FLOAT32, dim) or zlib.crc32(key + _HEADER.pack(kind, width, cut, 0) + row) != checksum:
        return None
    return Entry(row, cut) if np.isfinite(np.frombuffer(row, np.float32)).all() else None


class Breaker:
    """Says for how long a place that failed is left alone: twice as long after each failure, up to a minute.

    Args:
        clock: seconds.
        jitter: 0 to 1, so that many processes do not come back at once.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, jitter: Callable[[], float] = random.random
    ) -> None:
        self._clock = clock
        self._jitter = jitter
        self._failures = 0
        self._closed_at = -np.inf
        self._lock = threading.Lock()

    @property
    def open(self) -> bool:
        """Whether the place is left alone now."""
        return self._clock() < self._closed_at

    def allows(self) -> bool:
        """Whether to try now. After a pause one caller may, and the others wait for what becomes of it."""
        with self._lock:
            if self.open:
                return False
            if self._failures:
                self._closed_at = self._clock() + _FIRST_PAUSE_S
            return True

    def failed(self) -> None:
        """Open it."""
        with self._lock:
            pause = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0**self._failures)
            self._failures = min(self._failures + 1, 10)
            self._closed_at = self._clock() + pause * (0.75 + 0.5 * self._jitter())

    def worked(self) -> None:
        """Close it."""
        with self._lock:
            self._failures, self._closed_at = 0, -np.inf


class GuardedTier:
    """A store behind bounded retries, a breaker, checksums, and a thread that writes.

    An operation takes at most twice ``timeout_s``; after one that failed the store is not asked for a while.

    Args:
        store: where the values are.
        name: of the place, without credentials.
        dim: width of the vectors; others are damaged.
        timeout_s: no retry begins later than this.
    """

    def __init__(self, store: Store, *, name: str, dim: int, timeout_s: float, breaker: Breaker | None = None) -> None:
        self._store = store
        self._dim = dim
        self._timeout_s = timeout_s
        self._breaker = breaker or Breaker()
        self._lock = threading.Lock()
        self._stats = TierStats(name=name)
        self._warned: set[str] = set()
        self._blocks: queue.Queue[Mapping[bytes, Entry] | None] = queue.Queue(_WAITING_BLOCKS)
        self._writer: threading.Thread | None = None

    def get(self, keys: Sequence[bytes]) -> list[Entry | None]:
        """Entries in the order of the keys; None for what is missing, damaged, or can't be had now."""
        values: list[object] = (self._try(self._store.get, keys) if keys else None) or [None] * len(keys)
        found = [unpack(key, value, self._dim) for key, value in zip(keys, values, strict=True)]
        hits = sum(entry is not None for entry in found)
        damaged = sum(value is not None for value in values) - hits
        self._count(hits=hits, misses=len(keys) - hits, damaged=damaged)
        if damaged:
            self._log(
                "damaged", "%s: %d damaged values are computed anew; further ones are counted in stats()", damaged
            )
        return found

    def put(self, entries: Mapping[bytes, Entry]) -> None:
        """Let entries be written; at once if there is no room for them to wait, they are dropped."""
        if self._breaker.open:
            self._count(dropped=len(entries))
            return
        with self._lock:
            if self._writer is None:
                self._writer = threading.Thread(target=self._write, name="nimbed-tier", daemon=True)
                self._writer.start()
        try:
            self._blocks.put_nowait(entries)
        except queue.Full:
            self._count(dropped=len(entries))

    def stats(self) -> TierStats:
        """What it did."""
        with self._lock:
            return replace(self._stats, state="down" if self._breaker.open else "up")

    def close(self) -> None:
        """Write what waits, for two seconds at most; the rest is dropped."""
        if self._writer is not None:
            try:
                self._blocks.put(None, timeout=_CLOSE_S)
            except queue.Full:
                logger.debug("%s: closed with values unwritten", self._stats.name)
            if threading.current_thread() is not self._writer:
                self._writer.join(_CLOSE_S)
        try:
            self._store.close()
        except self._store.errors:
            logger.debug("%s: closing failed", self._stats.name, exc_info=True)

    def _write(self) -> None:
        while (entries := self._blocks.get()) is not None:
            written = self._try(self._store.put, {key: pack(key, entry) for key, entry in entries.items()})
            self._count(**{"dropped" if written is None else "written": len(entries)})

    def _try(self, operation: Callable[[Any], Any], argument: object) -> Any:  # noqa: ANN401 (what the store gives)
        """The operation's result, True where it has none, or None where it failed."""
        if not self._breaker.allows():
            return None
        retrying = Retrying(
            retry=retry_if_exception_type(self._store.errors),
            stop=stop_after_attempt(_ATTEMPTS) | stop_after_delay(self._timeout_s),
            wait=wait_random_exponential(multiplier=self._timeout_s / 20, max=self._timeout_s / 4),
            reraise=True,
        )
        try:
            result = retrying(operation, argument)
        except self._store.errors as err:
            self._failed(err)
            return None
        self._breaker.worked()
        return True if result is None else result

    def _failed(self, error: Exception) -> None:
        self._breaker.failed()
        self._count(failures=1)
        # The class alone: a message may quote what was sent.
        kind = type(error).__name__
        self._log("failed", "%s failed (%s); embeddings go on without it, and it is tried again later", kind)

    def _log(self, event: str, message: str, detail: object) -> None:
        """Warn when an event comes for the first time."""
        level = logging.INFO if event in self._warned else logging.WARNING
        self._warned.add(event)
        logger.log(level, message, self._stats.name, detail)

    def _count(self, **more: int) -> None:
        with self._lock:
            self._stats = replace(self._stats, **{name: getattr(self._stats, name) + n for name, n in more.items()})


class OffTier:
    """Stands where a tier was asked for that this process can't use; ``stats`` says why."""

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
