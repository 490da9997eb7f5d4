"""The files of a part."""

from __future__ import annotations

import errno
import json

import numpy as np
import pytest

from nimbed._files.lines import Position
from nimbed._text.rows import BadRow
from nimbed.bulk.formats import FORMATS
from nimbed.bulk.layout import Block, Layout
from nimbed.bulk.part_files import RECORDS, PartFiles, hash_of, hashes_name, part_name, skipped_name
from nimbed.errors import InputError

BLOCK = Block([0], ["a"], np.ones((1, 2), np.float32))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / RECORDS).mkdir()
    return tmp_path


def files_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def begin(folder):
    return PartFiles(folder, 7, FORMATS["dense"][".npy"], Layout(width=2))


def test_files_have_their_names_when_they_are_whole(folder):
    (folder / f".{part_name(7, '.rows')}.tmp").write_text("of a run that was killed")
    files = begin(folder)
    files.write(BLOCK, [hash_of("a")])
    files.skip(BadRow("not JSON", "why", "in.jsonl", 3, Position()))
    files.close()
    assert all(name.endswith(".tmp") for name in files_in(folder))
    states = files.publish()
    assert files_in(folder) == sorted(states) == sorted(["part-000007.rows", hashes_name(7), skipped_name(7)])
    assert all(state.matches(folder / name) for name, state in states.items())
    assert (folder / hashes_name(7)).read_bytes() == hash_of("a")
    assert json.loads((folder / skipped_name(7)).read_text()) == {
        "file": "in.jsonl", "line": 3, "kind": "not JSON", "reason": "why",
    }  # fmt: skip
    assert (files.rows, files.skipped) == (1, {"not JSON": 1})


def test_what_is_discarded_leaves_nothing(folder):
    files = begin(folder)
    files.write(BLOCK, [hash_of("a")])
    files.discard()
    files.discard()
    assert files_in(folder) == []


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_is_told(call, folder, monkeypatch):
    files = begin(folder)
    files.write(BLOCK, [hash_of("a")])
    files.close()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync" if call == "fsync" else "pathlib.Path.replace", full)
    with pytest.raises(InputError, match=r"part-000007.rows.tmp cannot be written: .*No space .*run the same command"):
        files.publish()
