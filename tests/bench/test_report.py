"""What a bench found, for people and for programs."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from tests.support.benches import make_report

from nimbed.bench import Figure
from nimbed.bench.report import shown


def test_figures_know_their_rates():
    figure = Figure(part="p", case="c", contender="x", unit="ms", values=[1, 2, 30], tokens=10, operations=4e6)
    assert (figure.median, figure.texts_per_s, figure.tokens_per_s, figure.gops) == (2, 500, 5000, 2)
    assert Figure(part="p", case="c", contender="x", unit="MB", values=[5.0]).gops is None


def test_what_is_no_speed_has_no_rates():
    figure = Figure(part="p", case="c", contender="x", unit="MB", values=[5.0], tokens=10, operations=4e6)
    assert (figure.texts_per_s, figure.tokens_per_s, figure.gops) == (None, None, None)
    uncounted = Figure(part="p", case="c", contender="x", unit="texts/s", values=[5.0])
    assert (uncounted.texts_per_s, uncounted.tokens_per_s) == (None, None)


def test_throughput_is_its_own_rate():
    figure = Figure(part="p", case="c", contender="x", unit="texts/s", values=[40.0, 50.0], tokens=8, operations=2e9)
    assert (figure.texts_per_s, figure.tokens_per_s, figure.gops) == (45, 360, 90)


def test_ratios_are_above_1_for_what_is_better():
    report = make_report()
    for part, case in (("latency", "16 tokens"), ("documents", "natural lengths")):
        assert report.ratio(report.find(part, case, "fast")) == pytest.approx(2)
        assert report.ratio(report.find(part, case, "slow")) == pytest.approx(1)


def test_where_the_reference_has_no_figure_there_is_no_ratio():
    report = make_report()
    assert report.ratio(report.find("start", "fresh process, resident", "fast")) is None
    assert report.find("start", "fresh process, resident", "slow") is None
    assert report.find("latency", "natural lengths", "fast") is None


def test_the_share_of_the_roof_is_that_of_its_median():
    report = make_report()
    fast = report.find("documents", "natural lengths", "fast")  # 400 texts/s of 5e7 operations: 20 G a second
    assert report.roof_share(fast) == pytest.approx({"fp32": 1.0, "int8": 20 / 90})
    assert report.roof_share(report.find("start", "fresh process, resident", "fast")) == {}


def test_the_tables_hold_each_part():
    lines = make_report().to_markdown().splitlines()
    header = "|  | contender | median | range | times reference | tokens/s | of fp32 roof | of int8 roof |"
    assert lines[:3] == ["**latency**", "", header]
    assert "| 16 tokens | fast | 5 ms | 4 to 9 | 2.00 | 3,200 | 50% | 11% |" in lines
    assert "| natural lengths | slow | 200 texts/s | 200 to 200 | 1.00 | 3,200 | 50% | 11% |" in lines
    at = lines.index("**start**")
    assert lines[at + 2] == "|  | contender | median | range | times reference | tokens/s |"
    assert lines[at + 4] == "| fresh process, resident | fast | 150 MB | 150 to 150 |  |  |"


def test_the_notes_say_who_is_missing_and_under_what_it_ran():
    notes = make_report().to_markdown().rpartition("\n\n")[2].splitlines()
    assert notes[0].startswith("- The reference is slow;")
    assert notes[1:] == [
        "- Cosine to the reference on the documents, mean and worst: fast 0.9950, 0.9800.",
        "- Roof, matrix products alone in this run, G operations a second: fp32 20, int8 90.",
        "- No figures of a\\|b: it computes something else.",
        "- Failed, served, 64 callers, slow: RuntimeError: Already borrowed.",
        "- instruction sets: avx2, fma",
        "- versions: numpy 2.0",
        "- rounds: 3",
    ]


def test_what_was_not_measured_has_no_note():
    bare = replace(make_report(), agreement={}, roof={}, refused={}, failed={}, conditions={})
    assert bare.to_markdown().splitlines()[-1].startswith("- The reference is slow")


def test_json_holds_what_is_derived_too():
    read = json.loads(make_report().to_json())
    assert read["reference"] == "slow"
    first = read["figures"][0]
    assert (first["values"], first["median"], first["times_reference"]) == ([4, 5, 9], 5, 2)
    assert (first["tokens_per_s"], first["gops"]) == (3200, 10)
    assert first["roof_share"] == pytest.approx({"fp32": 0.5, "int8": 10 / 90})
    assert read["figures"][-1]["times_reference"] is None
    assert read["agreement"] == {"fast": {"worst": 0.98, "mean": 0.995}}


@pytest.mark.parametrize(
    ("value", "written"), [(1234.5, "1234"), (100, "100"), (99.94, "99.9"), (0.01234, "0.0123"), (5.0, "5")]
)
def test_three_digits_are_shown(value, written):
    assert shown(value) == written
