"""Files of a job: found, and known again."""

from __future__ import annotations

import os

import pytest

from nimbed._text.rows import Columns
from nimbed.bulk.inputs import find_inputs, look_at
from nimbed.errors import InputError


def test_patterns_are_filled_in_by_the_order_of_names(tmp_path, monkeypatch):
    for name in ("b.txt", "a.txt", "c.csv"):
        (tmp_path / name).write_text("text\n")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "d.txt").write_text("")
    (tmp_path / "x[1].txt").write_text("")
    monkeypatch.chdir(tmp_path)
    assert find_inputs(["c.csv", "?.txt"]) == [str(tmp_path / name) for name in ("c.csv", "a.txt", "b.txt")]
    assert find_inputs([f"{tmp_path}/**/d.txt"]) == [str(tmp_path / "sub" / "d.txt")]
    assert find_inputs(["x[1].txt", "-"]) == [str(tmp_path / "x[1].txt"), "-"]


@pytest.mark.parametrize(
    ("patterns", "kind", "says"),
    [
        (["*.none"], None, "matches no file"),
        ([], None, "there is no input"),
        (["-", "-"], None, "named twice"),
        (["-"], "xml", "kind='xml' is not one of jsonl"),
    ],
)
def test_inputs_that_are_refused(patterns, kind, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=says):
        find_inputs(patterns, kind)


def test_a_file_is_known_again_by_its_content(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("one\ntwo\n")
    file = look_at(str(path))
    assert [row.text for row in file.rows(Columns())] == ["one", "two"]
    assert file.unchanged()
    os.utime(path, ns=(1, 1))
    assert file.unchanged()
    path.write_text("one\ntwo\nthree\n")
    assert not file.unchanged()
    assert file.only_grown()
    path.write_text("one\nTWO\n")
    assert not file.unchanged()
    assert not file.only_grown()
    path.unlink()
    with pytest.raises(InputError, match=r"a\.txt cannot be read: No such file"):
        file.unchanged()


def test_what_can_be_read_once_has_no_hash(tmp_path):
    assert look_at("-").once
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        assert look_at(str(tmp_path / "pipe")).once
