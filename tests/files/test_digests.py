"""Hashes of files, and whether a file that an engine has mapped is still what it was."""

from __future__ import annotations

import hashlib
import os
import zlib

import pytest

from nimbed._files.digests import Unchanged, crc32_of, sha256_of
from nimbed.errors import ArtefactError


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, (1 << 20) + 1])
def test_digests_are_those_of_the_whole_file(size, tmp_path):
    path = tmp_path / "a"
    path.write_bytes(content := b"x" * size)
    assert sha256_of(path) == hashlib.sha256(content).hexdigest()
    assert crc32_of(path) == zlib.crc32(content)


@pytest.fixture
def seen(tmp_path):
    paths = [tmp_path / "weights", tmp_path / "settings"]
    for path in paths:
        path.write_text("before")
    return Unchanged.of(paths)


def test_files_that_stay_are_unchanged(seen):
    seen.check()
    seen.check(replaced=False)


@pytest.mark.parametrize("write", [lambda p: p.write_text("longer than before"), lambda p: os.utime(p, (1, 1))])
def test_a_file_that_was_written_into_is_named(write, seen, tmp_path):
    write(tmp_path / "weights")
    with pytest.raises(ArtefactError, match=r"weights was written into while it was open.*open the model again"):
        seen.check()
    seen.only("settings").check()


def test_a_new_file_under_the_name_leaves_the_old_one_as_it_was(seen, tmp_path):
    (tmp_path / "new").write_text("another")
    (tmp_path / "new").replace(tmp_path / "weights")
    seen.check()
    with pytest.raises(ArtefactError, match="weights"):
        seen.check(replaced=False)


def test_a_file_that_was_removed_leaves_the_mapped_one(seen, tmp_path):
    (tmp_path / "settings").unlink()
    seen.check()
    with pytest.raises(ArtefactError, match="settings"):
        seen.check(replaced=False)


def test_of_a_missing_file_there_is_nothing_to_compare(tmp_path):
    with pytest.raises(FileNotFoundError):
        Unchanged.of([tmp_path / "nowhere"])
