"""A whole job: what it makes, and what is left and gone on with when it dies."""

from __future__ import annotations

import errno
import random
import subprocess
import sys
import time

import numpy as np
import pytest
from tests.support.bulk_jobs import content, open_encoder, read_parquet, records, write_jsonl

from nimbed.bulk import Columns, embed_files
from nimbed.bulk.npy_format import NpyPart
from nimbed.errors import FingerprintError, InputError

OUTPUTS = ["out.npy", "out.jsonl", "out.parquet"]


@pytest.fixture(scope="module")
def encoder():
    with open_encoder() as opened:
        yield opened


@pytest.fixture
def source(tmp_path):
    return write_jsonl(tmp_path / "in.jsonl", records(230))


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("out", OUTPUTS)
def test_an_output_appears_when_it_is_complete(out, source, tmp_path, encoder):
    summary = embed_files(encoder, source, tmp_path / out, part_rows=50)
    assert (summary.rows, summary.computed, summary.width, summary.skipped) == (230, 230, 8, {})
    assert names(tmp_path) == ["in.jsonl", out]
    texts = [row["text"] for row in records(230)]
    if out == "out.npy":
        np.testing.assert_array_equal(np.load(tmp_path / out), encoder.encode(texts))
    if out == "out.parquet":
        ids, vectors = read_parquet(tmp_path / out)
        assert ids == list(range(230))
        np.testing.assert_array_equal(np.float32(vectors), encoder.encode(texts))


def test_any_layout_of_the_input_gives_the_same_output(source, tmp_path, encoder):
    for number, rows in enumerate((records(100), records(1, 100), records(129, 101))):
        write_jsonl(tmp_path / f"{number}.jsonl", rows)
    columns = Columns(text=("title", "text"), template="{title}: {text}", id="id")
    for out, inputs in (("a.parquet", source), ("b.parquet", [tmp_path / "?.jsonl"])):
        assert embed_files(encoder, inputs, tmp_path / out, part_rows=64, columns=columns).rows == 230
    assert content(tmp_path / "a.parquet") == content(tmp_path / "b.parquet")
    assert read_parquet(tmp_path / "a.parquet")[0] == [row["id"] for row in records(230)]


def test_bad_rows_are_skipped_and_listed(tmp_path):
    rows = [*records(30), {"text": 3}, *records(30), {"body": ""}, {"text": "x" * 90}, *records(30)]
    source, out = write_jsonl(tmp_path / "in.jsonl", rows), tmp_path / "out.parquet"
    with open_encoder(max_length=40, truncate="error") as encoder:
        with pytest.raises(InputError, match=r'in\.jsonl, line 31: "text" is int'):
            embed_files(encoder, source, out, part_rows=20)
        summary = embed_files(encoder, source, out, part_rows=20, on_error="skip")
    assert summary.skipped == {"not a string": 1, "missing field": 1, "too many tokens": 1}
    assert read_parquet(out)[0] == [n for n in range(93) if n not in {30, 61, 62}]
    listed = (tmp_path / "out.parquet.skipped.jsonl").read_text().splitlines()
    assert [line.split('"line": ')[1].split(",")[0] for line in listed] == ["31", "62", "63"]


COMMAND = """
import sys
from nimbed import Encoder
from nimbed.bulk import embed_files
with Encoder("any", backend="fake", cache=None, dim=8) as encoder:
    embed_files(encoder, sys.argv[1], sys.argv[2], part_rows=40)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
@pytest.mark.parametrize("out", OUTPUTS)
def test_a_job_that_is_killed_again_and_again_has_the_bytes_of_an_undisturbed_one(out, tmp_path, encoder):
    source = write_jsonl(tmp_path / "in.jsonl", records(2000))
    (tmp_path / "calm").mkdir()
    embed_files(encoder, source, tmp_path / "calm" / out, part_rows=40)
    (tmp_path / f".{out}.0123abcd.tmp").touch()  # as a run leaves that is killed at its end
    draw, killed, parts = random.Random(out), 0, 0
    while True:
        child = subprocess.Popen([sys.executable, "-c", COMMAND, str(source), str(tmp_path / out)])
        while child.poll() is None and named(tmp_path, out) < parts + 20:
            time.sleep(0.002)
        time.sleep(draw.random() * 0.02)
        child.kill()
        if child.wait() == 0:
            break
        killed += 1
        assert not (tmp_path / out).exists() or content(tmp_path / out) == content(tmp_path / "calm" / out)
        parts = named(tmp_path, out)
    assert killed >= 2
    assert content(tmp_path / out) == content(tmp_path / "calm" / out)
    assert names(tmp_path) == ["calm", "in.jsonl", out]


def named(folder, out):
    """How many parts the manifest names."""
    path = folder / f"{out}.partial" / "_nimbed" / "parts.jsonl"
    try:
        return path.read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0


def interrupted(monkeypatch, encoder, source, out, after=3, **options):
    """Run until the disk is full, in the part behind so many."""
    write, parts = NpyPart.write, []

    def full(self, block):
        if self not in parts:
            parts.append(self)
        if len(parts) > after:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(self, block)

    with monkeypatch.context() as patch:
        patch.setattr(NpyPart, "write", full)
        with pytest.raises(InputError, match=r"cannot be written: .*No space left"):
            embed_files(encoder, source, out, part_rows=50, **options)


def test_a_full_disk_costs_the_part_in_the_making(source, tmp_path, encoder, monkeypatch):
    out = tmp_path / "out.npy"
    interrupted(monkeypatch, encoder, source, out)
    assert names(tmp_path) == ["in.jsonl", "out.npy.partial"]
    assert named(tmp_path, "out.npy") == 3
    assert embed_files(encoder, source, out, part_rows=50).computed == 80
    np.testing.assert_array_equal(np.load(out), encoder.encode([row["text"] for row in records(230)]))


def test_a_disk_that_is_full_when_parts_are_joined_costs_nothing(source, tmp_path, encoder, monkeypatch):
    out = tmp_path / "out.npy"

    def full(*_):
        raise InputError(f"{out} cannot be written: No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("nimbed.bulk.npy_format.NpyFormat.join", full)
        with pytest.raises(InputError, match="No space"):
            embed_files(encoder, source, out, part_rows=50)
    summary = embed_files(encoder, source, out, part_rows=50)
    assert (summary.rows, summary.computed) == (230, 0)
    assert np.load(out).shape == (230, 8)


def test_an_input_that_vanishes_or_changes_is_named(source, tmp_path, encoder, monkeypatch):
    out = tmp_path / "out.npy"
    interrupted(monkeypatch, encoder, source, out)
    kept = source.read_bytes()
    source.unlink()
    with pytest.raises(InputError, match=r"in\.jsonl cannot be read: No such file"):
        embed_files(encoder, source, out, part_rows=50)
    write_jsonl(source, records(231))
    with pytest.raises(InputError, match=r"in\.jsonl has changed since .*out\.npy\.partial was begun; begin anew"):
        embed_files(encoder, source, out, part_rows=50)
    source.write_bytes(kept)  # another time, the same content
    assert embed_files(encoder, source, out, part_rows=50).computed == 80


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"role": "query"}, "begun with role='document', now it is 'query'"),
        ({"part_rows": 49}, "begun with part_rows=50, now it is 49"),
        ({"dtype": "float16"}, "begun with dtype='float32'"),
        ({"columns": Columns(text=("title",))}, "begun with columns="),
    ],
)
def test_a_job_is_finished_as_it_was_begun(options, says, source, tmp_path, encoder, monkeypatch):
    out = tmp_path / "out.npy"
    interrupted(monkeypatch, encoder, source, out)
    with pytest.raises(InputError, match=says):
        embed_files(encoder, source, out, **{"part_rows": 50, **options})
    assert embed_files(encoder, source, out, begin="restart", **{"part_rows": 50, **options}).computed == 230


def test_another_fingerprint_is_refused(source, tmp_path, encoder, monkeypatch):
    interrupted(monkeypatch, encoder, source, tmp_path / "out.npy")
    with open_encoder(max_length=99) as other, pytest.raises(FingerprintError, match="begun with fingerprint="):
        embed_files(other, source, tmp_path / "out.npy", part_rows=50)


@pytest.mark.parametrize("how", ["cut", "altered", "altered behind its back", "gone"])
def test_a_part_that_is_damaged_is_made_again(how, source, tmp_path, encoder, monkeypatch):
    out, part = tmp_path / "out.npy", tmp_path / "out.npy.partial" / "part-000001.rows"
    interrupted(monkeypatch, encoder, source, out)
    damage(part, how)
    summary = embed_files(encoder, source, out, part_rows=50)
    assert summary.damaged == ("part-000001.rows",)
    assert summary.computed == 130
    np.testing.assert_array_equal(np.load(out), encoder.encode([row["text"] for row in records(230)]))


def damage(part, how):
    import os

    state, content = part.stat(), part.read_bytes()
    if how == "gone":
        part.unlink()
    elif how == "cut":
        part.write_bytes(content[:-3])
    else:
        part.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        if how == "altered behind its back":
            os.utime(part, ns=(state.st_atime_ns, state.st_mtime_ns))


def test_an_output_of_parts_is_checked_and_mended(source, tmp_path, encoder):
    out = tmp_path / "out.parquet"
    embed_files(encoder, source, out, part_rows=50)
    whole = content(out)
    again = embed_files(encoder, source, out, part_rows=50)
    assert (again.rows, again.computed, again.damaged) == (230, 0, ())
    damage(out / "part-000002.parquet", "altered behind its back")
    mended = embed_files(encoder, source, out, part_rows=50)
    assert (mended.computed, mended.damaged) == (50, ("part-000002.parquet",))
    assert content(out) == whole
    write_jsonl(source, records(3))
    with pytest.raises(InputError, match=r"in\.jsonl has changed since .*begin='update'"):
        embed_files(encoder, source, out, part_rows=50)


def test_an_input_that_changes_meanwhile_is_told_at_the_end(source, tmp_path, encoder, monkeypatch):
    class Changing:
        """An encoder in whose time somebody writes."""

        def __getattr__(self, name):
            return getattr(encoder, name)

        def encode_iter(self, texts, **options):
            yield from encoder.encode_iter(texts, **options)
            text = source.read_text()
            source.write_text(text.replace("passage 3", "PASSAGE 3"))

    monkeypatch.setattr("nimbed.bulk.request.stamp", lambda _: {"nimbed_fingerprint": "f"})
    with pytest.raises(InputError, match=r"in\.jsonl was changed while it was read"):
        embed_files(Changing(), source, tmp_path / "out.npy", part_rows=500)
    assert not (tmp_path / "out.npy").exists()
