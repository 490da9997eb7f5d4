"""The latest minute: what the models count anyway, read once a second while there is something to see."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter, deque
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from nimbed.server.exchange import GONE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from nimbed.server.catalog import Catalog
    from nimbed.server.exchange import Exchange
    from nimbed.server.load import Load
    from nimbed.server.models import Counts

WINDOW_S = 60.0
_STEP_S = 1.0
# Durations are counted by eighths of a power of two, so that a percentile is within 5 % of the exact one.
_PER_OCTAVE = 8


class Moment(NamedTuple):
    """What was there at a point in time, and the requests that ended since the one before.

    Attributes:
        at: by the clock, in seconds.
        in_flight: requests that were answered or waited, at most.
        counts: of each model since it was opened.
        durations: of answered requests, by model: how many took how long (see :func:`bucket`).
        failed: requests that were refused, or failed.
    """

    at: float
    in_flight: int
    counts: Mapping[str, Counts]
    durations: Mapping[str, Counter[int]]
    failed: int


class Recent:
    """Keeps the moments of the latest minute; used on the event loop alone.

    Args:
        catalog: whose models are read.
        load: whose requests are.
        clock: in seconds.
    """

    def __init__(self, catalog: Catalog, load: Load, clock: Callable[[], float] = time.monotonic) -> None:
        self._models, self._load, self._clock = catalog.models, load, clock
        self._moments: deque[Moment] = deque(maxlen=round(WINDOW_S / _STEP_S) + 2)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._failed = self._most = 0
        self._durations: dict[str, Counter[int]] = {}
        self._look()

    def wake(self) -> None:
        """A request begins: look at the models every second until there is none any more."""
        self._most = max(self._most, self._load.requests)
        loop = asyncio.get_running_loop()
        if self._loop is not loop:  # not awake; or it was on a loop that has ended
            self._loop = loop
            loop.call_later(_STEP_S, self._tick, loop)

    def ended(self, exchange: Exchange) -> None:
        """A request has ended."""
        if exchange.method != "POST" or exchange.status == GONE:
            return
        if exchange.status >= 400:
            self._failed += 1
            self.wake()  # it may have been refused before it began
        elif exchange.work.model:
            self._durations.setdefault(exchange.work.model, Counter())[bucket(exchange.seconds)] += 1

    def shown(self) -> dict[str, Any]:
        """The minute up to now, in numbers and lists that JSON has: one item for each moment, the oldest first.

        ``models`` has those of each model by its id, and ``all`` those of all of them. A rate is that since the moment
        before, whose distance is ``span_s``; percentiles are None where no request ended.
        """
        now = self._clock()
        if now - self._moments[-1].at >= _STEP_S:
            self._look()
        moments = list(self._moments)
        first = next((at for at, one in enumerate(moments) if now - one.at < WINDOW_S), len(moments))
        pairs = list(pairwise(moments))[max(0, first - 1) :]
        names = [named.id for named in self._models]
        return {
            "window_s": WINDOW_S,
            "ended_s_ago": [round(now - later.at, 2) for _, later in pairs],
            "span_s": [round(later.at - earlier.at, 3) for earlier, later in pairs],
            "in_flight": [later.in_flight for _, later in pairs],
            "failed": sum(later.failed for _, later in pairs),
            "all": _series(pairs, names, now),
            "models": {name: _series(pairs, [name], now) for name in names},
        }

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._loop is not loop:
            return
        self._look()
        if self._load.requests:
            loop.call_later(_STEP_S, self._tick, loop)
        else:
            self._loop = None

    def _look(self) -> None:
        counts = {named.id: named.model.counts() for named in self._models}
        most = max(self._most, self._load.requests)
        self._moments.append(Moment(self._clock(), most, counts, self._durations, self._failed))
        self._durations, self._failed, self._most = {}, 0, 0


def bucket(seconds: float) -> int:
    """The number of the bucket that counts a duration."""
    return round(_PER_OCTAVE * math.log2(max(seconds, 1e-6)))


def percentile_ms(durations: Counter[int], share: float) -> float | None:
    """The duration that this share of the counted ones does not exceed, in milliseconds; None where there is none."""
    left = share * durations.total()
    for number in sorted(durations):
        left -= durations[number]
        if left <= 0:
            return round(1000 * math.pow(2.0, number / _PER_OCTAVE), 3)
    return None


class _Between(NamedTuple):
    """What some models did between two moments."""

    seconds: float
    durations: Counter[int]
    texts: int
    tokens: int
    hits: int
    lookups: int
    waiting: int

    @classmethod
    def of(cls, earlier: Moment, later: Moment, names: list[str]) -> _Between:
        """The sums over the models of these names."""
        durations = sum((later.durations.get(name, Counter()) for name in names), Counter[int]())
        done = {
            field: sum(getattr(later.counts[name], field) - getattr(earlier.counts[name], field) for name in names)
            for field in ("texts", "tokens", "hits", "lookups")
        }
        waiting = sum(later.counts[name].waiting for name in names)
        return cls(seconds=max(later.at - earlier.at, 1e-3), durations=durations, waiting=waiting, **done)


def _series(pairs: Sequence[tuple[Moment, Moment]], names: list[str], now: float) -> dict[str, Any]:
    """Of some models together: a number for each pair of moments, and what all pairs come to."""
    steps = [_Between.of(earlier, later, names) for earlier, later in pairs]
    total = sum((one.durations for one in steps), Counter[int]())
    # Of the first, what lies before the window was idle.
    span = sum(min(one.seconds, WINDOW_S - (now - later.at)) for one, (_, later) in zip(steps, pairs, strict=True))
    return {
        "requests": [one.durations.total() for one in steps],
        "p50_ms": [percentile_ms(one.durations, 0.5) for one in steps],
        "p99_ms": [percentile_ms(one.durations, 0.99) for one in steps],
        "texts_per_s": [round(one.texts / one.seconds, 1) for one in steps],
        "tokens_per_s": [round(one.tokens / one.seconds, 1) for one in steps],
        "cache_hits": [one.hits for one in steps],
        "cache_lookups": [one.lookups for one in steps],
        "waiting": [one.waiting for one in steps],
        "minute": {
            "requests": total.total(),
            "p50_ms": percentile_ms(total, 0.5),
            "p99_ms": percentile_ms(total, 0.99),
            "texts_per_s": round(sum(one.texts for one in steps) / max(span, 1e-3), 1),
            "tokens_per_s": round(sum(one.tokens for one in steps) / max(span, 1e-3), 1),
            "cache_hits": sum(one.hits for one in steps),
            "cache_lookups": sum(one.lookups for one in steps),
        },
    }
