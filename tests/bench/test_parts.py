"""Each part takes everyone through its workloads."""

from __future__ import annotations

import pytest
from tests.support.contenders import Recording, make_network, make_ring

from nimbed.bench import measure, parts
from nimbed.evaluate import Setting


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr(measure, "PAUSE_S", 0.0)


def cases(ring):
    """Of each part and workload, the unit and who has figures."""
    found = {}
    for figure in ring.figures:
        found.setdefault((figure.part, figure.case, figure.unit), []).append(figure.contender)
    return found


def test_latency_has_lengths_and_natural_queries_seen_and_first():
    ring = make_ring(Recording("a"), Recording("b"))
    parts.latency(ring)
    assert list(cases(ring)) == [
        ("latency", case, "ms")
        for case in (
            "16 tokens",
            "64 tokens",
            "natural lengths, seen before",
            "natural lengths, as they come, p50",
            "natural lengths, as they come, p99",
        )
    ]
    assert set(map(tuple, cases(ring).values())) == {("a", "b")}
    assert [figure.tokens for figure in ring.figures[:4]] == [16, 16, 64, 64]


def test_pauses_are_measured_alone():
    contender = Recording("a")
    ring = make_ring(contender)
    parts.pauses(ring)
    assert list(cases(ring)) == [("pauses", f"natural lengths, 0 ms apart, {share}", "ms") for share in ("p50", "p90")]
    assert contender.opened == [48]
    assert contender.asked == [([query], "query") for query in ring.texts.queries] * 3  # a round goes before


def test_latency_opens_for_the_longest_length_and_first_sight_afresh_each_round():
    contender = Recording()
    parts.latency(make_ring(contender, rounds=3))
    assert contender.opened == [64, 48, 48, 48]


def test_not_quick_all_lengths_up_to_the_networks_are_there():
    ring = make_ring(Recording(), quick=False, network=make_network(longest=32))
    parts.latency(ring)
    lengths = [figure.case for figure in ring.figures if figure.case.endswith("tokens")]
    assert lengths == ["8 tokens", "16 tokens", "32 tokens"]


def test_documents_go_in_one_call():
    contender = Recording()
    ring = make_ring(contender)
    parts.documents(ring)
    assert list(cases(ring)) == [("documents", "natural lengths", "texts/s")]
    assert contender.asked == [(list(ring.texts.documents), "document")] * 3  # a round goes before


@pytest.mark.parametrize(("quick", "sizes"), [(True, [4, 32]), (False, [4, 8, 16, 32, 64, 128, 256])])
def test_batches_are_of_texts_of_one_length(quick, sizes):
    contender = Recording()
    ring = make_ring(contender, quick=quick, rounds=1)
    parts.batches(ring)
    assert list(cases(ring)) == [("batches", f"{size} x 48 tokens", "texts/s") for size in sizes]
    assert [len(texts) for texts, _ in contender.asked[::2]] == sizes
    assert {len(text.split()) for texts, _ in contender.asked for text in texts} == {48}


def test_served_queries_are_all_different():
    contender = Recording()
    ring = make_ring(contender, rounds=1)
    parts.served(ring)
    assert list(cases(ring)) == [("served", "64 callers", "texts/s")]
    counted = [texts[0] for texts, role in contender.asked[16:] if role == "query"]
    assert len(set(counted)) == len(counted) == 2 * len(ring.texts.queries)


def test_start_has_seconds_and_megabytes_and_a_warm_round_unless_quick(monkeypatch):
    started = []

    def fresh(contender, documents, max_length):
        started.append((contender.label, max_length))
        return {"first vector": 1.5, "resident": 100.0}

    monkeypatch.setattr(measure, "fresh", fresh)
    for quick, rounds in ((True, 2), (False, 3)):
        ring = make_ring(Recording("a"), Recording("b"), quick=quick)
        parts.start(ring)
        assert cases(ring) == {
            ("start", "fresh process, first vector", "s"): ["a", "b"],
            ("start", "fresh process, resident", "MB"): ["a", "b"],
        }
        assert started == [("a", 48), ("b", 48)] * rounds
        started.clear()


def test_threads_are_for_own_settings_that_leave_them_open(monkeypatch):
    class Plan:
        threads = 6

    opened = []

    def open_setting(setting, max_length):
        opened.append(setting.threads)
        return Recording().open(max_length)

    monkeypatch.setattr("nimbed._machine.thread_plan", Plan)
    monkeypatch.setattr("nimbed.evaluate.Setting.open", open_setting)
    own, fixed = Setting(model="m", name="own"), Setting(model="m", name="fixed", threads=2)
    ring = make_ring(Recording(), own, fixed, rounds=1)
    parts.threads(ring)
    assert cases(ring) == {("threads", f"{n}, natural lengths", "texts/s"): ["own"] for n in (1, 2, 4, 6)}
    assert opened == [1, 2, 4, 6]
