"""What a job has done, as its folder keeps it."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from nimbed._files.lines import Position
from nimbed.bulk.inputs import InputFile
from nimbed.bulk.manifest import JOB, PARTS, FileState, Manifest, PartRecord
from nimbed.bulk.plan import Part, Plan
from nimbed.errors import InputError

PLAN = Plan((InputFile(path="/in.jsonl", kind="jsonl", bytes=9, mtime_ns=3, sha256="s"),), (Part(0, 5, 0, Position()),))
STATE = FileState(bytes=1, mtime_ns=2, sha256="s")
RECORD = PartRecord(
    part=0, input="/in.jsonl", first=0, rows=4, kept=1, truncated=2, skipped={"not JSON": 1}, files={"part": STATE}
)


@pytest.fixture
def begun(tmp_path):
    manifest = Manifest(tmp_path / "job")
    manifest.begin({"fingerprint": "f", "width": 8}, PLAN)
    return manifest


def read_again(manifest):
    again = Manifest(manifest.folder)
    again.read_parts()
    return again


def test_the_job_and_its_parts_are_read_again(begun):
    key, plan = begun.read_job()
    assert (dict(key), plan) == ({"fingerprint": "f", "width": 8}, PLAN)
    assert read_again(begun).parts == {}
    begun.add(RECORD)
    begun.add(replace(RECORD, part=1))
    begun.add(replace(RECORD, rows=5))
    assert read_again(begun).parts == begun.parts == {0: replace(RECORD, rows=5), 1: replace(RECORD, part=1)}
    assert RECORD.read == 5


@pytest.mark.parametrize("cut", [1, 20])
def test_a_line_that_was_cut_short_names_no_part(begun, cut):
    begun.add(RECORD)
    begun.add(replace(RECORD, part=1))
    path = begun.folder / PARTS
    path.write_bytes(path.read_bytes()[:-cut])
    again = read_again(begun)
    assert set(again.parts) == {0}
    again.add(replace(RECORD, part=2))
    assert set(read_again(begun).parts) == {0, 2}


@pytest.mark.parametrize("line", ["no JSON", "{}", '{"part": 0}', "[]"])
def test_a_damaged_line_is_named(begun, line):
    begun.add(RECORD)
    with (begun.folder / PARTS).open("a") as file:
        file.write(line + "\n")
    with pytest.raises(InputError, match=r"parts\.jsonl, line 2 is damaged: .*begin='restart'"):
        read_again(begun)


@pytest.mark.parametrize("text", ["{}", "no JSON", '{"version": 2}', '{"version": 1, "key": {}}'])
def test_a_damaged_job_is_named(begun, text):
    (begun.folder / JOB).write_text(text)
    with pytest.raises(InputError, match=r"job\.json.*begin='restart'"):
        begun.read_job()


def test_a_file_is_known_by_size_and_time_or_by_its_content(tmp_path):
    path = tmp_path / "part"
    path.write_bytes(b"some rows")
    state = FileState.of(path)
    assert state.looks_like(path)
    os.utime(path, ns=(5, 5))
    assert not state.looks_like(path)
    assert state.matches(path)
    path.write_bytes(b"some ROWS")
    assert not state.matches(path)
    path.unlink()
    assert not state.looks_like(path)
    assert not state.matches(path)
