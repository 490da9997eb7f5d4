"""Where a job works, and what it must not touch."""

from __future__ import annotations

import pytest
from filelock import FileLock
from tests.support.bulk_jobs import content, open_encoder, records, write_jsonl

from nimbed.bulk import embed_files
from nimbed.bulk.workplace import Workplace
from nimbed.errors import InputError


@pytest.fixture(scope="module")
def encoder():
    with open_encoder() as opened:
        yield opened


@pytest.fixture
def source(tmp_path):
    return write_jsonl(tmp_path / "in.jsonl", records(30))


@pytest.mark.parametrize("begin", ["resume", "restart"])
def test_a_folder_of_somebody_else_is_left_alone(begin, source, tmp_path, encoder):
    mine = tmp_path / "out.npy.partial"
    mine.mkdir()
    (mine / "thesis.tex").write_text("")
    with pytest.raises(InputError, match=r"holds 'thesis\.tex', which is not a job's; move it away"):
        embed_files(encoder, source, tmp_path / "out.npy", begin=begin)
    assert (mine / "thesis.tex").exists()
    (tmp_path / "out.parquet").mkdir()
    with pytest.raises(InputError, match="is no output of this command"):
        embed_files(encoder, source, tmp_path / "out.parquet", begin=begin)


@pytest.fixture
def unfinished(source, tmp_path, encoder, monkeypatch):
    """The folder of a job whose parts are all there, and not yet its output."""

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("nimbed.bulk.npy_format.NpyFormat.join", killed)
        with pytest.raises(KeyboardInterrupt):
            embed_files(encoder, source, tmp_path / "out.npy", part_rows=10)
    return tmp_path / "out.npy.partial"


def test_two_runs_of_one_job_do_not_mix(unfinished, source, tmp_path, encoder):
    with FileLock(unfinished / "_nimbed" / "lock"), pytest.raises(InputError, match="another process's"):
        embed_files(encoder, source, tmp_path / "out.npy", part_rows=10)
    assert embed_files(encoder, source, tmp_path / "out.npy", part_rows=10).computed == 0


def test_a_job_that_was_begun_meanwhile_is_left_alone(unfinished, source, tmp_path, encoder, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Workplace, "_take_up", lambda *_: None)
        with pytest.raises(InputError, match="begun by another run meanwhile"):
            embed_files(encoder, source, tmp_path / "out.npy", part_rows=10)
    assert len(content(unfinished)) == 3


def test_other_inputs_are_another_job(unfinished, tmp_path, encoder):
    other = write_jsonl(tmp_path / "other.jsonl", records(3))
    with pytest.raises(InputError, match="was begun with other inputs"):
        embed_files(encoder, other, tmp_path / "out.npy", part_rows=10)


def test_what_a_killed_run_left_of_its_end_is_removed(unfinished, source, tmp_path, encoder):
    import shutil

    shutil.rmtree(unfinished / "_nimbed")
    assert embed_files(encoder, source, tmp_path / "out.npy", part_rows=10).computed == 30
    assert not unfinished.exists()
