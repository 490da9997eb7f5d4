"""Files that appear when they are complete."""

from __future__ import annotations

import pytest

from nimbed._files.whole import remove_unfinished, sync_file, sync_folder, whole_file, writing
from nimbed.errors import EncodeTimeoutError, InputError


def test_a_file_appears_when_it_is_complete(tmp_path):
    path = tmp_path / "a.txt"
    with whole_file(path) as file:
        file.write(b"all of it")
        assert not path.exists()
    assert path.read_bytes() == b"all of it"
    sync_file(path)
    sync_folder(tmp_path)
    assert list(tmp_path.iterdir()) == [path]


def test_what_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(TypeError), whole_file(path) as file:
        file.write("text, where bytes are wanted")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_file_that_cannot_be_written_is_named(tmp_path):
    path = tmp_path / "none" / "a.txt"
    with pytest.raises(InputError, match=r"a\.txt cannot be written: .*; buy a disk"), writing(path, "; buy a disk"):
        path.write_text("")
    with pytest.raises(EncodeTimeoutError), writing(path):
        raise EncodeTimeoutError("of the engine")


def test_what_a_killed_writer_left_is_removed(tmp_path):
    for name in (".a.txt.0123abcd.tmp", "a.txt", ".b.txt.0123abcd.tmp", "a.txt.tmp"):
        (tmp_path / name).touch()
    remove_unfinished(tmp_path / "a.txt")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".b.txt.0123abcd.tmp", "a.txt", "a.txt.tmp"]
