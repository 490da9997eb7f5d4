"""The latest minute, by a clock of the test's own."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest

from nimbed.server import recent as module
from nimbed.server.models import Counts
from nimbed.server.recent import Recent, bucket, percentile_ms


class Minute:
    """A Recent whose models, load and clock are the test's."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.load = SimpleNamespace(requests=0)
        self.counts = {"a": [0, 0, 0, 0, 0], "b": [0, 0, 0, 0, 0]}
        models = [
            SimpleNamespace(id=name, model=SimpleNamespace(counts=lambda name=name: Counts(*self.counts[name])))
            for name in self.counts
        ]
        self.recent = Recent(SimpleNamespace(models=models), self.load, lambda: self.now)

    def ended(self, model: str = "a", seconds: float = 0.01, status: int = 200, method: str = "POST") -> None:
        work = SimpleNamespace(model=model)
        self.recent.ended(SimpleNamespace(method=method, status=status, seconds=seconds, work=work))

    def after(self, seconds: float) -> None:
        self.now += seconds
        self.recent.shown()


@pytest.fixture
def minute():
    return Minute()


@pytest.mark.parametrize("share", [0.5, 0.99])
def test_percentiles_are_near_the_exact_ones(share):
    rng = random.Random(0)
    seconds = [rng.lognormvariate(-5, 1) for _ in range(3000)]
    exact = 1000 * float(np.quantile(seconds, share))
    assert percentile_ms(Counter(map(bucket, seconds)), share) == pytest.approx(exact, rel=0.07)


def test_percentiles_of_few():
    assert percentile_ms(Counter(), 0.5) is None
    assert percentile_ms(Counter({bucket(0.25): 1}), 0.99) == 250
    assert bucket(0.0) < bucket(1e-5) < bucket(1.0) < bucket(60.0)


def test_at_first_nothing_has_happened(minute):
    minute.now += 5
    shown = minute.recent.shown()
    assert shown["all"]["minute"]["requests"] == 0
    assert shown["all"]["minute"]["p50_ms"] is None
    assert shown["in_flight"] == [0]


def test_rates_are_differences_of_the_models_own_counts(minute):
    minute.counts["a"][:2] = 10, 200
    minute.counts["b"][:2] = 4, 40
    minute.after(2)
    shown = minute.recent.shown()
    assert shown["span_s"] == [2.0]
    assert shown["models"]["a"]["texts_per_s"] == [5.0]
    assert shown["models"]["b"]["tokens_per_s"] == [20.0]
    assert shown["all"]["texts_per_s"] == [7.0]
    assert shown["all"]["minute"]["tokens_per_s"] == 120.0


def test_cache_and_queue(minute):
    minute.counts["a"][2:] = 7, 3, 4
    minute.after(1)
    shown = minute.recent.shown()
    assert shown["models"]["a"]["waiting"] == [7]
    assert (shown["all"]["cache_hits"], shown["all"]["cache_lookups"]) == ([3], [4])
    assert shown["all"]["minute"]["cache_hits"] == 3


async def test_requests_belong_to_the_moment_in_which_they_ended(minute):
    minute.ended(seconds=0.004)
    minute.ended("b", seconds=0.4)
    minute.after(1)
    minute.ended(seconds=0.008)
    minute.after(1)
    shown = minute.recent.shown()
    assert shown["all"]["requests"] == [2, 1]
    assert shown["models"]["a"]["p50_ms"] == pytest.approx([4, 8], rel=0.05)
    assert shown["models"]["b"]["p99_ms"][1] is None
    assert shown["ended_s_ago"] == [1.0, 0.0]


async def test_what_failed_has_no_latency(minute):
    minute.ended(status=429)
    minute.ended(status=503)
    minute.ended(status=499)  # the client went: nothing failed
    minute.ended(method="GET")
    minute.ended(model="")
    minute.after(1)
    shown = minute.recent.shown()
    assert shown["failed"] == 2
    assert shown["all"]["requests"] == [0]


def test_what_is_older_than_a_minute_is_gone_and_memory_is_bounded(minute):
    for _ in range(500):
        minute.recent._durations["a"] = Counter({bucket(0.01): 1})
        minute.after(1)
    shown = minute.recent.shown()
    assert shown["all"]["minute"]["requests"] == 60
    assert len(minute.recent._moments) <= 62
    minute.after(300)
    assert minute.recent.shown()["all"]["minute"]["requests"] == 0


def test_an_idle_hour_does_not_thin_out_what_follows(minute):
    minute.after(3600)
    minute.counts["a"][0] = 100
    minute.after(10)
    assert minute.recent.shown()["all"]["minute"]["texts_per_s"] == pytest.approx(100 / 60, abs=0.1)


def test_asking_often_adds_no_moments(minute):
    minute.after(1)
    for _ in range(50):
        minute.after(0.01)
    assert len(minute.recent.shown()["span_s"]) == 1


def test_it_looks_while_there_are_requests_and_then_sleeps(minute, monkeypatch):
    planned = []
    loop = SimpleNamespace(call_later=lambda _, *call: planned.append(call))
    monkeypatch.setattr(module.asyncio, "get_running_loop", lambda: loop)
    minute.load.requests = 1
    minute.recent.wake()
    minute.recent.wake()
    for requests in (1, 1, 0):
        assert len(planned) == 1
        minute.now += 1
        minute.load.requests = requests
        tick, of_loop = planned.pop()
        tick(of_loop)
    assert planned == []
    assert minute.recent.shown()["span_s"] == [1.0, 1.0, 1.0]
    minute.recent.wake()
    assert len(planned) == 1


def test_the_most_at_once_is_kept(minute):
    async def come():
        for requests in (1, 9, 2):
            minute.load.requests = requests
            minute.recent.wake()

    asyncio.run(come())
    minute.load.requests = 0
    minute.after(1)
    assert minute.recent.shown()["in_flight"] == [9]


def test_a_loop_that_ended_does_not_keep_it_asleep(minute):
    async def come():
        minute.recent.wake()
        return asyncio.get_running_loop()

    first, second = asyncio.run(come()), asyncio.run(come())
    assert first is not second
    assert minute.recent._loop is second
