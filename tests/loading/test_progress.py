"""How far a build is: fractions that only grow, and an estimate from what was counted."""

from __future__ import annotations

import io
import logging
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimbed._loading.progress import SHARES, LayersDone, Step, TimeLeft, counted, in_words, shown


def step(stage, done=0, total=0):
    return Step(stage=stage, done=done, total=total)


# A whole build, as the native engine tells of it.
WHOLE = [
    step("reading the network"),
    *(step("quantizing", n, 12) for n in range(13)),
    step("measuring against fp32"),
    *(step("measuring against fp32", n, 256) for n in range(1, 257)),
    step("saving"),
    step("publishing"),
]


def events(steps):
    return [{"kind": "progress", "stage": s.stage, "done": s.done, "total": s.total} for s in steps]


def test_the_shares_are_those_of_a_whole():
    assert sum(SHARES.values()) == pytest.approx(1)


def test_fractions_never_shrink():
    fractions = [one.fraction for one in WHOLE]
    assert fractions == sorted(fractions)
    assert fractions[0] == 0
    assert fractions[-1] < 1


@given(done=st.integers(0, 50), total=st.integers(0, 50))
def test_a_stage_stays_within_its_share(done, total):
    one = step("quantizing", min(done, total), total)
    first, behind = step("quantizing").fraction, step("measuring against fp32").fraction
    assert first <= one.fraction <= behind + 1e-9


def test_layers_are_counted_and_tokens_are_not():
    assert str(step("quantizing", 7, 12)) == "quantizing, 7 of 12"
    assert str(step("measuring against fp32", 512, 2048)) == "measuring against fp32, 25%"
    assert str(step("saving")) == "saving"


def test_counted_items_are_told_behind_each():
    told = []
    items = counted("abc", [5, 1, 4], lambda done, total: told.append((done, total)))
    assert next(items) == "a"
    assert told == []
    assert list(items) == ["b", "c"]
    assert told == [(5, 10), (6, 10), (10, 10)]


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def test_the_time_left_is_that_of_the_parts_still_to_come():
    """Layers that take 6 s each, when 3 of 12 are done: 9 more, and the rest in proportion."""
    clock = Clock()
    left = TimeLeft(clock)
    assert left.after(step("reading the network")) is None
    clock.now += 3
    assert left.after(step("quantizing", 0, 12)) is None
    clock.now += 18
    share = SHARES["quantizing"]
    whole = 72 / share
    expected = whole * (1 - step("quantizing", 3, 12).fraction)
    assert left.after(step("quantizing", 3, 12)) == pytest.approx(expected)
    clock.now += 54
    assert left.after(step("quantizing", 12, 12)) == pytest.approx(whole * (1 - SHARES["reading the network"] - share))


def test_another_stage_keeps_the_pace_until_it_has_its_own():
    clock = Clock()
    left = TimeLeft(clock)
    left.after(step("quantizing", 0, 12))
    clock.now += 83
    left.after(step("quantizing", 12, 12))
    measuring = step("measuring against fp32")
    pace = 83 / SHARES["quantizing"]
    assert left.after(measuring) == pytest.approx(pace * (1 - measuring.fraction))
    clock.now += 30
    half = step("measuring against fp32", 1, 2)
    own = 30 / (SHARES["measuring against fp32"] / 2)
    assert left.after(half) == pytest.approx(own * (1 - half.fraction))


def test_a_repair_takes_nobody_knows_how_long():
    clock = Clock()
    left = TimeLeft(clock)
    left.after(step("quantizing", 0, 12))
    clock.now += 83
    assert left.after(step("quantizing", 12, 12)) is not None
    assert left.after(step("repairing")) is None
    assert left.after(step("saving")) is None


def test_without_counted_parts_there_is_no_estimate():
    left = TimeLeft(Clock())
    assert [left.after(step(stage)) for stage in SHARES] == [None] * len(SHARES)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (None, ""),
        (0.0, ", a few seconds left"),
        (4.9, ", a few seconds left"),
        (41.0, ", about 40 s left"),
        (89.0, ", about 90 s left"),
        (100.0, ", about 2 min left"),
        (3600.0, ", about 60 min left"),
    ],
)
def test_no_more_is_said_than_is_known(seconds, said):
    assert in_words(seconds) == said


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_file_gets_lines_and_no_bar(monkeypatch):
    file = io.StringIO()
    monkeypatch.setattr(sys, "stderr", file)
    assert list(shown(events(WHOLE), "some/model int8", bar=True)) == []
    lines = file.getvalue().splitlines()
    assert lines[:2] == ["some/model int8: reading the network", "some/model int8: quantizing, 0 of 12"]
    assert len(lines) == len({one.stage for one in WHOLE})
    assert "\r" not in file.getvalue()


def test_a_notebook_gets_a_bar_and_no_lines(monkeypatch):
    """Its standard error is no terminal either."""
    import tqdm.auto

    class Notebook(tqdm.auto.tqdm):
        __module__ = "tqdm.notebook"

    file = io.StringIO()
    monkeypatch.setattr(sys, "stderr", file)
    monkeypatch.setattr(tqdm.auto, "tqdm", Notebook)
    assert list(shown(events(WHOLE), "some/model int8", bar=True)) == []
    assert "%|" in file.getvalue()
    assert "some/model int8: reading" not in file.getvalue()


def test_a_file_gets_nothing_where_nothing_is_asked_for(monkeypatch):
    file = io.StringIO()
    monkeypatch.setattr(sys, "stderr", file)
    assert list(shown(events(WHOLE), "some/model int8", bar=False)) == []
    assert file.getvalue() == ""


def test_the_bar_and_the_log_say_stage_part_and_time(monkeypatch, caplog):
    drawn = Terminal()
    monkeypatch.setattr(sys, "stderr", drawn)
    end = {"kind": "done"}
    with caplog.at_level(logging.INFO, logger="nimbed"):
        assert list(shown([*events(WHOLE), end], "some/model int8", bar=True)) == [end]
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0] == "some/model int8: reading the network"
    assert lines[1] == "some/model int8: quantizing, 0 of 12"
    assert [line.partition(", ")[0].partition(": ")[2] for line in lines] == [
        "reading the network", "quantizing", "measuring against fp32", "saving", "publishing"
    ]  # fmt: skip
    assert lines[-1].endswith("publishing, a few seconds left")
    assert "some/model int8" in drawn.getvalue()
    assert "reading the network" in drawn.getvalue()


@pytest.mark.parametrize(
    ("seen", "said"),
    [(0, ""), (1, ""), (2, ": 0 of 12 layers are done"), (5, ": 3 of 12 layers are done")],
)
def test_layers_that_are_done(seen, said):
    layers = LayersDone()
    told = [
        {"kind": "progress", "stage": "reading the network", "done": 0, "total": 0},
        *({"kind": "progress", "stage": "quantizing", "done": done, "total": 12} for done in range(4)),
    ][:seen]
    assert list(layers.counted(told)) == told
    assert str(layers) == said


def test_layers_are_done_when_the_next_stage_has_begun():
    layers = LayersDone()
    last = {"kind": "progress", "stage": "measuring against fp32", "done": 5, "total": 700}
    list(layers.counted([{"kind": "progress", "stage": "quantizing", "done": 12, "total": 12}, last, {"kind": "done"}]))
    assert str(layers) == ": 12 of 12 layers are done"


@pytest.mark.parametrize("bar", [False, True])
def test_nothing_is_drawn_where_nobody_looks(bar, monkeypatch, capsys):
    if bar:
        monkeypatch.setattr(sys, "stderr", None)
    assert list(shown(events(WHOLE), "some/model int8", bar=bar)) == []
    assert capsys.readouterr().err == ""
