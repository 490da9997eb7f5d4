"""What bounds a lone query of a network: reading its int8 weights once, and its operations at the int8 roof."""

from __future__ import annotations

import ctypes
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

import _common
import numpy as np

from nimbed.evaluate.markdown import table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nimbed.bench.network import Network

ROUNDS, PAUSE_S = 15, 0.02


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Of a query of median length.

    Attributes:
        tokens: of the query.
        weight_bytes: of all matrices that it is multiplied by, in int8.
        gb_per_s: 10^9 bytes that all threads together read from so large an array in a second.
        operations: of the query; a product and its addition are two.
        gops: 10^9 operations a second in int8.
    """

    tokens: float
    weight_bytes: float
    gb_per_s: float
    operations: float
    gops: float

    @property
    def reading_ms(self) -> float:
        """The weights once from memory."""
        return self.weight_bytes / self.gb_per_s / 1e6

    @property
    def computing_ms(self) -> float:
        """The operations at the roof."""
        return self.operations / self.gops / 1e6

    @property
    def ms(self) -> float:
        """The larger of the two: no engine that keeps int8 weights is faster."""
        return max(self.reading_ms, self.computing_ms)


def limits(network: Network, queries: Sequence[str], *, max_length: int, threads: int, gops: float) -> Limits:
    """Measured now, on a network whose operations can be counted."""
    operations, lengths = network.operations, network.lengths(queries, max_length)
    assert operations is not None, "none of the contenders runs a graph that can be counted"
    weights = operations.linear / 2  # each is multiplied once for a token
    return Limits(
        tokens=median(lengths),
        weight_bytes=weights,
        gb_per_s=read_gb_per_s(int(weights), threads),
        operations=median(operations.of([length]) for length in lengths),
        gops=gops,
    )


def read_gb_per_s(size: int, threads: int) -> float:
    """The best of some rounds: each thread looks through its share of the array for a byte that is not there.

    Rounds are as far apart as queries are: read again at once, part of the array would come from the caches.
    """
    library = ctypes.CDLL(None)
    library.memchr.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t)
    library.memchr.restype = ctypes.c_void_p
    share = size // threads
    array = np.ones(share * threads, np.uint8)

    def read() -> float:
        time.sleep(PAUSE_S)
        return _common.seconds(lambda: list(pool.map(look, range(threads))))

    def look(number: int) -> None:
        assert library.memchr(array.ctypes.data + number * share, 0, share) is None

    with ThreadPoolExecutor(threads) as pool:
        best = min(read() for _ in range(ROUNDS))
    return array.size / best / 1e9


def shown(found: Limits, p50_ms: Mapping[str, float]) -> str:
    """The limits in words, and a line for each contender."""
    larger = "reading" if found.reading_ms >= found.computing_ms else "computing"
    text = (
        f"A query of {found.tokens:.0f} tokens: {found.weight_bytes / 1e6:.0f} MB of int8 weights once at "
        f"{found.gb_per_s:.1f} GB/s: {found.reading_ms:.3g} ms; {found.operations / 1e9:.3g} G operations at "
        f"{found.gops:.0f} GOPS: {found.computing_ms:.3g} ms. The limit is {larger}: {found.ms:.3g} ms."
    )
    rows = [[label, f"{took:.3g}", f"{took / found.ms:.2f}"] for label, took in p50_ms.items()]
    return f"{text}\n\n{table(['contender', 'query p50 20 ms apart, ms', 'times the limit'], rows)}"


def recorded(found: Limits, p50_ms: Mapping[str, float]) -> dict[str, Any]:
    """As JSON has it."""
    ratios = {label: took / found.ms for label, took in p50_ms.items()}
    return {**asdict(found), "reading_ms": found.reading_ms, "computing_ms": found.computing_ms, "times": ratios}
