"""What a figure depends on is written down."""

from __future__ import annotations

import json

import pytest
from tests.support.contenders import Odd, make_ring

from nimbed import _machine
from nimbed.bench.conditions import conditions, spread


def test_conditions_name_machine_texts_and_settings():
    ring = make_ring(Odd(label="odd"), rounds=3)
    found = conditions(ring)
    assert (found["rounds"], found["max_length"], found["texts"]) == (3, 48, "made here")
    assert found["cpu"] == _machine.cpu().model
    assert found["threads"].startswith(f"{_machine.thread_plan().threads} (")
    assert found["versions"]["numpy"]
    assert found["document_tokens"]["texts"] == 16
    assert found["query_tokens"]["texts"] == 8
    json.dumps(found)


def test_lengths_are_counted_up_to_the_networks_longest():
    ring = make_ring()
    longest = max(len(text.split()) for text in ring.texts.documents)
    assert longest > ring.network.longest
    assert conditions(ring)["document_tokens"]["max"] == ring.network.longest


def test_where_the_system_tells_no_load_it_is_said(monkeypatch):
    monkeypatch.delattr("os.getloadavg", raising=False)
    assert conditions(make_ring())["load_average_before"] == "not known here"


def test_a_spread_is_rounded_to_a_tenth():
    assert spread(range(1, 102)) == {"texts": 101, "mean": 51, "p10": 11.0, "p50": 51.0, "p90": 91.0, "max": 101}
    assert spread([1, 2, 2])["mean"] == pytest.approx(1.7)
