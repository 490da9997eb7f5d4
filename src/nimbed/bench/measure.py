"""One contender on one workload, by the clock. Each function returns the value of one round."""

from __future__ import annotations

import asyncio
import os
import pickle
import time
from functools import partial
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from nimbed._loading import child_process
from nimbed.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nimbed.bench.contenders import Contender, Embeds

CALLERS = 64
PAUSE_S = 0.02


def each_ms(call: Callable[[str], object], queries: Sequence[str], pause_s: float = 0.0) -> list[float]:
    """Milliseconds of each query, one after another, with a pause before each in which the caller sleeps."""
    took = []
    for query in queries:
        if pause_s:
            time.sleep(pause_s)
        took.append(1000 * seconds(partial(call, query)))
    return took


def query_ms(embeds: Embeds, queries: Sequence[str], pause_s: float = 0.0) -> list[float]:
    """Milliseconds of each query in a call of its own."""
    return each_ms(lambda query: embeds.encode([query], role="query"), queries, pause_s)


def latency_ms(embeds: Embeds, queries: Sequence[str]) -> float:
    """Their median."""
    return median(query_ms(embeds, queries))


def paused_ms(embeds: Embeds, queries: Sequence[str]) -> dict[str, float]:
    """``p50`` and ``p90`` of queries with a pause before each, as users send them: a loop keeps caches warm."""
    took = query_ms(embeds, queries, PAUSE_S)
    return {"p50": median(took), "p90": float(np.percentile(took, 90))}


def first_seen_ms(contender: Contender, queries: Sequence[str], max_length: int) -> dict[str, float]:
    """``p50`` and ``p99`` of queries whose lengths a contender, opened afresh, has not met before.

    The last query goes before them, uncounted, so that what opening puts off is not counted as a query.
    """
    with contender.open(max_length) as embeds:
        embeds.encode(queries[-1:], role="query")
        took = query_ms(embeds, queries[:-1])
    return {"p50": median(took), "p99": float(np.percentile(took, 99))}


def texts_per_s(embeds: Embeds, documents: Sequence[str]) -> float:
    """Documents a second, all in one call."""
    return len(documents) / seconds(lambda: embeds.encode(documents))


def served_per_s(embeds: Embeds, queries: Sequence[str]) -> float:
    """Queries a second from 64 tasks on one event loop, each with one query after the other."""

    async def caller(first: int) -> None:
        for query in queries[first::CALLERS]:
            await embeds.aencode([query], role="query")

    async def all_callers() -> None:
        await asyncio.gather(*(caller(first) for first in range(CALLERS)))

    return len(queries) / seconds(lambda: asyncio.run(all_callers()))


def fresh(contender: Contender, documents: Sequence[str], max_length: int) -> dict[str, float]:
    """In a process of its own: seconds to the first vector, and resident megabytes in the end.

    The seconds hold all imports, those of the bench too, which are a few tenths and the same for every contender.

    Raises:
        BackendError: the process failed; carries the end of what it wrote.
    """
    python = child_process.interpreter()
    if python is None:
        raise BackendError('the part "start" needs a Python interpreter to start; leave it out (--only)')
    path = child_process.import_path(modules=[type(contender).__module__])
    payload = pickle.dumps((contender, list(documents), max_length))
    try:
        with child_process.started(
            python, "nimbed.bench.fresh_process", payload, path=path, environment=os.environ, folder=os.curdir
        ) as child:
            found = next(child.reports(), {})
            fault = child.fault()
    except OSError as err:
        raise BackendError(f"{contender.label}: a fresh process could not be run: {err}") from err
    if fault is not None:
        raise BackendError(f"{contender.label}: a fresh process {fault}")
    return found


def seconds(call: Callable[[], object]) -> float:
    """Wall-clock seconds of one call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started
