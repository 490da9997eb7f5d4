"""Files that a command was asked for: refused early, written whole."""

from __future__ import annotations

import json
from argparse import Namespace

import pytest
from tests.support.benches import make_report

from nimbed.bench.outputs import check_outputs, write_files
from nimbed.errors import InputError


def test_a_missing_folder_is_named_before_anything_runs(tmp_path):
    check_outputs(None, tmp_path / "new.json", None)
    with pytest.raises(InputError, match=r"deep/r\.json cannot be written: there is no folder .*deep$"):
        check_outputs(tmp_path / "fine.md", tmp_path / "deep" / "r.json")
    assert list(tmp_path.iterdir()) == []


def test_what_was_asked_for_is_written(tmp_path):
    drawn = []
    report, chosen = make_report(), Namespace(json=tmp_path / "r.json", markdown=tmp_path / "r.md", plot=tmp_path / "p")
    write_files(report, chosen, lambda *given: drawn.append(given))
    assert json.loads(chosen.json.read_text())["reference"] == "slow"
    assert chosen.markdown.read_text() == report.to_markdown()
    assert drawn == [(report, tmp_path / "p")]


def test_what_was_not_asked_for_is_not(tmp_path):
    write_files(make_report(), Namespace(json=None, markdown=tmp_path / "r.md", plot=None), pytest.fail)
    assert [path.name for path in tmp_path.iterdir()] == ["r.md"]


def test_what_cannot_be_written_is_named(tmp_path):
    (tmp_path / "r.json").mkdir()
    with pytest.raises(InputError, match=r"r\.json cannot be written: "):
        write_files(make_report(), Namespace(json=tmp_path / "r.json", markdown=None, plot=None), pytest.fail)
