"""One contender on one workload, by a clock that the test sets."""

from __future__ import annotations

from itertools import count

import pytest
from tests.support.contenders import Odd, Recording

from nimbed.bench import measure
from nimbed.errors import BackendError


@pytest.fixture
def took(monkeypatch):
    """Sets how many seconds each timed call takes, one after another; the last for ever."""

    def took(*each: float) -> None:
        now, calls = 0.0, count()

        def clock():
            nonlocal now
            call = next(calls)
            now += each[min(call // 2, len(each) - 1)] if call % 2 else 0
            return now

        monkeypatch.setattr("nimbed.bench.measure.time.perf_counter", clock)

    return took


@pytest.fixture
def sleeps(monkeypatch):
    slept = []
    monkeypatch.setattr("nimbed.bench.measure.time.sleep", slept.append)
    return slept


def test_each_query_is_timed_by_itself_after_its_pause(took, sleeps):
    took(0.001, 0.003)
    asked = []
    assert measure.each_ms(asked.append, ["a", "b"], 0.5) == pytest.approx([1, 3])
    assert (asked, sleeps) == (["a", "b"], [0.5, 0.5])


def test_without_a_pause_nobody_sleeps(sleeps):
    assert len(measure.query_ms(Recording(), ["a", "b"])) == 2
    assert sleeps == []


def test_latency_is_the_median_of_queries_in_calls_of_their_own(took):
    took(0.001, 0.009, 0.002)
    contender = Recording()
    assert measure.latency_ms(contender, ["a", "b", "c"]) == pytest.approx(2)
    assert contender.asked == [(["a"], "query"), (["b"], "query"), (["c"], "query")]


def test_paused_queries_have_their_median_and_ninth_tenth(took, sleeps):
    took(*(n / 1000 for n in range(1, 12)))
    assert measure.paused_ms(Recording(), list("abcdefghijk")) == pytest.approx({"p50": 6, "p90": 10})
    assert sleeps == [measure.PAUSE_S] * 11


def test_the_last_query_is_asked_first_and_not_counted(took):
    took(0.001, 0.003)
    contender = Recording()
    assert measure.first_seen_ms(contender, ["a", "b", "c"], 32) == pytest.approx({"p50": 2, "p99": 2.98})
    assert contender.opened == [32]
    assert [texts for texts, _ in contender.asked] == [["c"], ["a"], ["b"]]


def test_documents_go_in_one_call(took):
    took(0.5)
    contender = Recording()
    assert measure.texts_per_s(contender, ["a", "b", "c"]) == pytest.approx(6)
    assert contender.asked == [(["a", "b", "c"], "document")]


def test_callers_share_the_queries_each_asked_once(took):
    took(2.0)
    contender = Recording()
    queries = [f"query {n}" for n in range(measure.CALLERS + 36)]
    assert measure.served_per_s(contender, queries) == pytest.approx(50)
    assert sorted(contender.asked) == sorted(([query], "query") for query in queries)


def test_a_failing_fresh_process_is_named_with_its_words():
    with pytest.raises(BackendError, match=r"(?s)^odd: a fresh process .*Already borrowed"):
        measure.fresh(Odd(label="odd", fails_on_queries=True), ["a"], 16)


def test_without_an_interpreter_the_part_is_named(monkeypatch):
    monkeypatch.setattr("nimbed._loading.child_process.interpreter", lambda: None)
    with pytest.raises(BackendError, match='the part "start" needs a Python interpreter'):
        measure.fresh(Odd(label="odd"), ["a"], 16)
