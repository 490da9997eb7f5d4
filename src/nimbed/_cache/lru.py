"""Vectors by key: an exact LRU bounded in bytes, and one computation for equal texts that are asked for at once.

It knows nothing of models or texts. A key is a hash over all that can change the vector, so an entry is never wrong;
it can only be missing.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nimbed._promise import Promise
    from nimbed._types import Float32Array, Int32Array, PromptedText, Role

# Key, tuple, integer and node of the ordered dictionary, beside the vector's own bytes (measured, CPython 3.11).
_OVERHEAD_BYTES = 300


class Entry(NamedTuple):
    """One text's vector.

    Attributes:
        row: float32 ``[dim]`` as bytes, which nobody can change.
        cut: tokens that the text had before truncation, or 0 where it lost none.
    """

    row: bytes
    cut: int


class Vectors(NamedTuple):
    """Vectors of some texts: float32 ``[n, dim]``, and int32 ``[n]`` as in :attr:`Entry.cut`."""

    rows: Float32Array
    cut: Int32Array

    def entry(self, index: int) -> Entry:
        """One of them, as a copy."""
        return Entry(self.rows[index].tobytes(), int(self.cut[index]))


class Tier(Protocol):
    """A second, shared store of entries. It never raises: failures are counted."""

    def get(self, keys: Sequence[bytes]) -> list[Entry | None]:
        """What it has, in the order of the keys."""
        ...

    def put(self, entries: Mapping[bytes, Entry]) -> None:
        """Take these entries; returns at once."""
        ...

    def stats(self) -> TierStats:
        """What it did."""
        ...

    def close(self) -> None:
        """Write what waits, within a bounded time."""
        ...


@dataclass(frozen=True, kw_only=True)
class TierStats:
    """What the shared tier did in this process.

    Attributes:
        name: kind and place, without credentials.
        state: "up", "down" (not asked for a while after failures) or "off" with the reason.
        hits: entries found.
        misses: entries not found, or not asked for while it was down.
        written: entries stored.
        dropped: entries not stored, because it was down or too slow.
        damaged: entries whose checksum, length or type was wrong; they were computed anew.
        failures: operations that failed after their retries.
    """

    name: str = ""
    state: str = "up"
    hits: int = 0
    misses: int = 0
    written: int = 0
    dropped: int = 0
    damaged: int = 0
    failures: int = 0


@dataclass(frozen=True, kw_only=True)
class CacheStats:
    """What the cache did in this process.

    Attributes:
        hits: texts whose vector was there.
        misses: texts that were computed, or fetched from the tier.
        joined: texts that another call, or an earlier place in the same one, was computing already.
        evictions: entries that made room for others.
        entries: now held.
        bytes: that they take, overhead included.
        limit_bytes: the maximum of these.
        tier: the shared tier, or None.
    """

    hits: int = 0
    misses: int = 0
    joined: int = 0
    evictions: int = 0
    entries: int = 0
    bytes: int = 0
    limit_bytes: int = 0
    tier: TierStats | None = None


class InFlight(NamedTuple):
    """Where a vector that is being computed will be: in the result of a promise, at a position."""

    promise: Promise[Vectors]
    position: int
    role: Role


@dataclass(kw_only=True)
class Claim:
    """What is known of some keys.

    Attributes:
        entries: by index, what the cache had.
        in_flight: by index, what is being computed already.
        to_compute: indices that the claimer has to compute, ascending.
    """

    entries: dict[int, Entry] = field(default_factory=dict)
    in_flight: dict[int, InFlight] = field(default_factory=dict)
    to_compute: list[int] = field(default_factory=list)


class Keys:
    """Makes keys: blake2b over the fingerprint, the prompt and the text, each with its length before it."""

    def __init__(self, fingerprint: str, prompt: str) -> None:
        self._of_model = hashlib.blake2b(digest_size=16)
        self._add(self._of_model, fingerprint)
        self._begun = self._of_model.copy()
        self._add(self._begun, prompt)

    def __call__(self, texts: Sequence[str | PromptedText]) -> list[bytes]:
        """A key of 16 bytes for each text; one with a prompt of its own has that in the place of the other."""
        keys = []
        for item in texts:
            if isinstance(item, str):
                state, text = self._begun.copy(), item
            else:
                state, text = self._of_model.copy(), item.text
                self._add(state, item.prompt)
            self._add(state, text)
            keys.append(state.digest())
        return keys

    @staticmethod
    def _add(state: hashlib.blake2b, part: str) -> None:
        data = part.encode("utf-8", "surrogatepass")
        state.update(len(data).to_bytes(8, "little") + data)


class VectorCache:
    """The LRU, and what is in flight in this process. Thread-safe.

    While the lock is held, an interrupt or a signal handler that asks for vectors may run at each function call, and
    nowhere else: what belongs together is stored after the calls.

    Args:
        limit_bytes: of all entries together.
        tier: asked for what the LRU lacks; owned by the cache.
    """

    def __init__(self, limit_bytes: int, tier: Tier | None = None) -> None:
        self.tier = tier
        self._limit = limit_bytes
        self._entries: OrderedDict[bytes, Entry] = OrderedDict()
        self._in_flight: dict[bytes, InFlight] = {}
        self._bytes = 0
        self._hits = self._misses = self._joined = self._evictions = 0
        self._lock = threading.RLock()  # a signal handler may run on the thread that holds it

    def __contains__(self, key: bytes) -> bool:
        return key in self._entries

    def peek(self, keys: Sequence[bytes]) -> list[Entry] | None:
        """All entries, or None where one is missing."""
        with self._lock:
            entries, found = self._entries, []
            for key in keys:
                if (entry := entries.get(key)) is None:
                    return None
                found.append(entry)
            for key in keys:
                entries.move_to_end(key)
            self._hits += len(keys)
        return found

    def claim(self, keys: Sequence[bytes], promise: Promise[Vectors], role: Role) -> Claim:
        """Sort keys into what is here, what another call computes, and what the claimer must compute.

        The latter are in flight until ``promise`` is done, whose result holds the vectors of all keys, by index. A
        query does not join a document in flight, which may be far back in its queue.
        """
        claim = Claim()
        release = partial(self._release, keys)
        promise.add_done_callback(release)  # before anything is in flight, so that nothing stays so for ever
        with self._lock:
            entries = self._entries
            for index, key in enumerate(keys):
                if (entry := entries.get(key)) is not None:
                    entries.move_to_end(key)
                    claim.entries[index] = entry
                elif (other := self._in_flight.get(key)) is not None and _may_join(other, promise, role):
                    claim.in_flight[index] = other
                else:
                    self._in_flight[key] = InFlight(promise, index, role)
                    claim.to_compute.append(index)
            self._hits += len(claim.entries)
            self._joined += len(claim.in_flight)
            self._misses += len(claim.to_compute)
        if promise.done():  # it was cancelled meanwhile
            release(promise)
        return claim

    def put(self, new: Mapping[bytes, Entry]) -> None:
        """Take entries as the latest used; the oldest are evicted."""
        with self._lock:
            entries = self._entries
            for key, entry in new.items():
                if (size := _size(entry)) > self._limit:
                    continue
                more = size - (_size(entries[key]) if key in entries else 0)
                entries[key] = entry
                self._bytes += more
                entries.move_to_end(key)
            while self._bytes > self._limit and entries:
                oldest = next(iter(entries))
                size = _size(entries[oldest])
                del entries[oldest]
                self._bytes -= size
                self._evictions += 1

    def stats(self) -> CacheStats:
        """What it did."""
        with self._lock:
            return CacheStats(
                hits=self._hits,
                misses=self._misses,
                joined=self._joined,
                evictions=self._evictions,
                entries=len(self._entries),
                bytes=self._bytes,
                limit_bytes=self._limit,
                tier=self.tier.stats() if self.tier else None,
            )

    def close(self) -> None:
        """Forget everything; the tier writes what waits."""
        with self._lock:
            self._entries, self._bytes = OrderedDict(), 0
        if self.tier is not None:
            self.tier.close()

    def _release(self, keys: Sequence[bytes], promise: Promise[Vectors]) -> None:
        with self._lock:
            for key in keys:
                if (own := self._in_flight.get(key)) is not None and own.promise is promise:
                    del self._in_flight[key]


def rows_of(entries: Sequence[Entry], dim: int) -> Float32Array:
    """float32 ``[n, dim]``, a copy that its owner may change."""
    return np.frombuffer(bytearray(b"".join([entry.row for entry in entries])), np.float32).reshape(-1, dim)


def _size(entry: Entry) -> int:
    return len(entry.row) + _OVERHEAD_BYTES


def _may_join(other: InFlight, promise: Promise[Vectors], role: Role) -> bool:
    return other.promise is promise or ((role == "document" or other.role == "query") and not other.promise.done())
