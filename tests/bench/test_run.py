"""The bench on a tiny folder: who takes part, what is refused, what is written down."""

from __future__ import annotations

import json
import sys

import pytest
from tests.support.contenders import Odd, make_texts

from nimbed.bench import PARTS, bench, save_plots
from nimbed.cli import main
from nimbed.errors import InputError
from nimbed.evaluate import Setting


@pytest.fixture(scope="module")
def report(fake):
    other = Setting(model=fake.model, backend="fake", name="fake again")
    return bench([other, fake], texts=make_texts(), quick=True, max_length=64)


def test_every_part_has_figures_of_every_contender(report):
    assert {figure.part for figure in report.figures} == {
        "latency",
        "pauses",
        "documents",
        "batches",
        "served",
        "start",
        "threads",
    }
    for figure in report.figures:
        assert len(figure.values) == 2
        assert min(figure.values) > 0
        assert report.find(figure.part, figure.case, "fake") is not None
        assert report.find(figure.part, figure.case, "fake again") is not None
    assert not report.refused
    assert not report.failed


def test_lengths_go_as_far_as_the_network(report):
    lengths = {f.case: f.tokens for f in report.figures if f.case.endswith(" tokens") and f.part == "latency"}
    assert lengths == {"16 tokens": 16, "64 tokens": 64}


def test_reports_say_what_they_hold(report, tmp_path):
    read = json.loads(report.to_json())
    assert read["reference"] == "fake"
    assert {f["times_reference"] for f in read["figures"] if f["contender"] == "fake"} == {1.0}
    text = report.to_markdown()
    assert all(f.case in text for f in report.figures)
    assert "made here" in text
    assert "roof" not in text.partition("**start**")[2].partition("**")[0]
    pictures = save_plots(report, tmp_path / "charts")
    assert {p.stem for p in pictures} == set(PARTS)
    assert all(p.read_bytes().startswith(b"\x89PNG") for p in pictures)


def test_without_openvino_there_is_no_roof(fake, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    report = bench([fake], parts=["documents"], texts=make_texts(), quick=True, max_length=64)
    assert report.roof == {}
    assert "roof" not in report.to_markdown().lower()


def test_ratios_are_above_1_for_what_is_better(report):
    by_hand = {
        "ms": lambda a, b: b / a,
        "texts/s": lambda a, b: a / b,
    }
    for part, case in (("latency", "16 tokens"), ("documents", "natural lengths")):
        mine, other = report.find(part, case, "fake again"), report.find(part, case, "fake")
        assert report.ratio(mine) == pytest.approx(by_hand[mine.unit](mine.median, other.median))


def test_who_computes_something_else_has_no_figures(fake):
    report = bench([Odd(label="noise"), fake], parts=["documents"], texts=make_texts(), quick=True, max_length=64)
    assert "do not agree" in report.refused["noise"]
    assert {figure.contender for figure in report.figures} == {"fake"}
    assert "No figures of noise" in report.to_markdown()


def test_who_fails_does_not_end_the_others_run(fake):
    odd = Odd(label="odd", fails_on_queries=True)
    report = bench([fake, odd, Odd(label="last")], parts=["served"], texts=make_texts(), quick=True, max_length=64)
    assert report.refused.keys() == {"fake"}
    assert report.failed == {"served, 64 callers, odd": "RuntimeError: Already borrowed"}
    assert {figure.contender for figure in report.figures} == {"last"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"parts": ["speed"]}, "'speed' is not one of latency"),
        ({"rounds": 0}, "rounds=0"),
        ({"max_length": 0}, "max_length=0"),
    ],
)
def test_settings_that_cannot_be_used(fake, arguments, message):
    with pytest.raises(InputError, match=message):
        bench([fake], texts=make_texts(), **arguments)


def test_the_command(tiny_folder, tmp_path, capsys):
    path = tmp_path / "texts.txt"
    path.write_text("\n".join(make_texts(40).documents))
    setting = f"{tiny_folder}@backend=fake,name=tiny"
    files = ["--json", f"{tmp_path}/b.json", "--markdown", f"{tmp_path}/b.md", "--plot", f"{tmp_path}/charts"]
    options = ["--only", "latency", "--quick", "--max-length", "32", "--texts", str(path), *files]
    assert main(["bench", setting, *options]) == 0
    assert "**latency**" in capsys.readouterr().out
    assert json.loads((tmp_path / "b.json").read_text())["conditions"]["texts"] == str(path)
    assert (tmp_path / "b.md").read_text().startswith("**latency**")
    assert (tmp_path / "charts" / "latency.png").is_file()
    assert main(["bench", setting, "--json", f"{tmp_path}/missing/b.json"]) == 1
    assert "there is no folder" in capsys.readouterr().err
