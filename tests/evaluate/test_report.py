"""A report says the same to people and to programs."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, replace

import pytest
from tests.support.evaluations import SURE, make_report

from nimbed.evaluate import Speed


def test_the_table_holds_each_score_with_its_difference_and_speed():
    lines = make_report().to_markdown().splitlines()
    assert lines[0] == "| set | metric | setting | value | difference [95 % interval] | p | texts/s |"
    assert lines[2] == "| topics | nDCG@10 | small | 0.4875 | -0.0125 [-0.0200, +0.0010] | 0.042 | 120 |"
    assert lines[3] == "| topics | nDCG@10 | fp32 | 0.5000 | reference |  | 120 |"
    assert lines[5] == "| pairs | Spearman | fp32 | 0.5000 | reference |  | 120 |"


def test_a_tiny_p_value_is_not_written_as_0():
    report = make_report()
    sure = replace(report, scores=[replace(report.scores[0], against_reference=SURE)])
    assert "| +0.2500 [+0.2000, +0.3000] | < 0.001 |" in sure.to_markdown()


def test_the_mixed_table_is_there_where_something_was_mixed():
    assert "must I re-index?" not in make_report().to_markdown()
    mixed = make_report(mixed=True).to_markdown()
    assert "Queries of a setting against the documents of fp32 (must I re-index?):" in mixed
    assert "| topics | nDCG@10 | small | 0.4500 | -0.0125 [-0.0200, +0.0010] | +0.2500 [+0.2000, +0.3000] |" in mixed


def test_the_notes_say_how_differences_were_found():
    notes = make_report().to_markdown().splitlines()[-1]
    assert notes.startswith("The reference is fp32. A difference is the setting less the reference")
    assert "300 resamples, seed 7" in notes
    assert "a side figure" in notes
    assert "Texts cut" not in notes


def test_one_setting_has_no_differences_to_explain():
    assert "bootstrap" not in make_report(settings=("fp32",)).to_markdown()


def test_cut_texts_are_named_by_set_and_setting():
    cut = make_report(settings=("fp32",), truncated=3).to_markdown()
    assert "Texts cut to the maximum length: topics 3 (fp32), pairs 3 (fp32)." in cut


def test_a_label_with_a_pipe_stays_one_cell():
    table = make_report(settings=("a|b", "fp32")).to_markdown()
    assert "| topics | nDCG@10 | a\\|b | 0.4875 |" in table


def test_json_holds_everything_and_the_reference():
    report = make_report(mixed=True)
    read = json.loads(report.to_json())
    assert (read["reference"], read["max_length"], read["resamples"], read["seed"]) == ("fp32", 64, 300, 7)
    assert read["scores"][0]["against_reference"] == {
        "difference": -0.0125,
        "low": -0.02,
        "high": 0.001,
        "p_value": 0.0421,
    }
    assert read["scores"][1]["against_reference"] is None
    assert read["mixed"][0]["documents"] == "fp32"
    assert {speed["texts_per_s"] for speed in read["speeds"]} == {120}
    assert "a side figure" in read["speed_note"]


def test_json_keeps_names_readable():
    assert '"größe"' in make_report(settings=("größe", "fp32")).to_json()


def test_no_time_is_no_rate():
    speed = Speed(kind="sts", set="pairs", setting="a", texts=10, seconds=0.0, truncated=0)
    assert speed.texts_per_s == 0
    assert replace(speed, seconds=4.0).texts_per_s == 2.5


def test_a_report_is_frozen():
    with pytest.raises(FrozenInstanceError):
        make_report().seed = 1
