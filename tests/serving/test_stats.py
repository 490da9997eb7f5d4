"""What an encoder counts, and those who hear of each batch."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimbed._serving.stats import Meter
from nimbed._types import BatchRecord


def record(tokens: int = 3, padded: int = 4) -> BatchRecord:
    return BatchRecord(role="query", rows=1, tokens=tokens, padded_tokens=padded, seconds=0.1)


def test_calls_and_batches_add_up():
    meter = Meter([])
    assert meter.counts == {"texts": 0, "tokens": 0, "padded_tokens": 0, "batches": 0, "truncated": 0}
    meter.call("document", texts=3, truncated=1, seconds=0.5)
    meter.call("query", texts=1, truncated=0, seconds=0.5)
    meter.batch(record(3, 4))
    meter.batch(record(5, 8))
    assert meter.counts == {"texts": 4, "tokens": 8, "padded_tokens": 12, "batches": 2, "truncated": 1}


def test_counts_are_a_copy():
    meter = Meter([])
    meter.counts["texts"] = 7
    assert meter.counts["texts"] == 0


def test_latency_is_by_role_where_there_was_a_call():
    meter = Meter([])
    assert meter.latency_ms == {}
    for seconds in (0.003, 0.001, 0.002):
        meter.call("query", texts=1, truncated=0, seconds=seconds)
    assert meter.latency_ms == {"query": (2.0, 2.98)}


@given(st.lists(st.floats(0, 100), min_size=1, max_size=50))
def test_quantiles_are_numpys(seconds):
    meter = Meter([])
    for one in seconds:
        meter.call("document", texts=1, truncated=0, seconds=one)
    expected = 1000 * np.quantile(seconds, (0.5, 0.99))
    np.testing.assert_allclose(meter.latency_ms["document"], expected, rtol=1e-9, atol=1e-4)


def test_only_the_latest_calls_count_for_latency():
    meter = Meter([])
    for seconds in [9.0] * 100 + [1.0] * 2048:
        meter.call("query", texts=1, truncated=0, seconds=seconds)
    assert meter.latency_ms["query"] == (1000, 1000)
    assert meter.counts["texts"] == 2148


def test_every_hook_hears_of_every_batch_and_one_that_raises_is_removed(caplog):
    heard = []

    def failing(_):
        heard.append("failing")
        raise ValueError("a hook's own")

    meter = Meter([failing, heard.append])
    first, second = record(1), record(2)
    meter.batch(first)
    meter.batch(second)
    assert heard == ["failing", first, second]
    assert "a batch hook failed and is removed" in caplog.text
    assert meter.counts["batches"] == 2


def test_a_hook_may_remove_itself():
    heard = []

    def once(_):
        meter.hooks.remove(once)
        heard.append("once")
        raise SystemExit

    meter = Meter([once, heard.append])
    meter.batch(record())
    assert heard == ["once", record()]


def test_hooks_are_the_list_that_was_given():
    hooks, heard = [], []
    meter = Meter(hooks)
    hooks.append(heard.append)
    meter.batch(record())
    assert heard == [record()]


def test_an_interrupt_is_the_main_threads_own():
    def interrupted(_):
        raise KeyboardInterrupt

    meter = Meter([interrupted])
    with pytest.raises(KeyboardInterrupt):
        meter.batch(record())
    assert meter.hooks == [interrupted]
    other = threading.Thread(target=meter.batch, args=(record(),))
    other.start()
    other.join()
    assert meter.hooks == []
    assert meter.counts["batches"] == 2
