"""The commands that measure check what they write before they measure."""

from __future__ import annotations

import pytest

from nimbed.cli import main


@pytest.mark.parametrize("command", ["evaluate", "bench"])
@pytest.mark.parametrize("option", ["--json", "--markdown"])
def test_a_place_that_is_not_there_is_told_first(command, option, tmp_path, capsys):
    assert main([command, "no/such/model", option, str(tmp_path / "none" / "out")]) == 1
    assert "there is no folder" in capsys.readouterr().err


def test_evaluate_prints_its_tables(tmp_path, capsys):
    pairs = "".join(f"{score}\ta text\tanother {score}\n" for score in (1, 2, 3, 4))
    (tmp_path / "sts.tsv").write_text("score\tsentence1\tsentence2\n" + pairs)
    options = ["--sts", str(tmp_path / "sts.tsv"), "--resamples", "100"]
    assert main(["evaluate", "any@backend=fake", *options, "--json", str(tmp_path / "out.json")]) == 0
    assert "| set | metric |" in capsys.readouterr().out
    assert (tmp_path / "out.json").is_file()
