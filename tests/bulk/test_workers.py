"""A job in several processes."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest
from tests.support.bulk_jobs import content, open_encoder, records, write_jsonl

from nimbed._text.rows import Columns
from nimbed.bulk.job import Job
from nimbed.bulk.processes import Speed, choose
from nimbed.bulk.request import Request
from nimbed.errors import BackendError, InputError

if TYPE_CHECKING:
    from nimbed.bulk import Summary


def run(source, out, **options) -> Summary:
    request = Request(inputs=(str(source),), out=out, columns=Columns(), **{"part_rows": 20, "processes": 2, **options})
    with open_encoder() as encoder:
        return Job(request).run(encoder)


@pytest.fixture
def two_cores(monkeypatch):
    """Whatever the machine has: two groups of CPUs that processes may run on."""
    from nimbed._machine import cpu_groups

    monkeypatch.setattr("nimbed.bulk.workers.cpu_groups", lambda count: cpu_groups(1) * count)


@pytest.mark.usefixtures("two_cores")
def test_the_output_is_that_of_one_process(tmp_path):
    source = write_jsonl(tmp_path / "in.jsonl", records(230))
    for out, processes in (("one.npy", 1), ("two.npy", 2)):
        summary = run(source, tmp_path / out, processes=processes, begin="update")
        assert (summary.rows, summary.computed) == (230, 230)
    assert (tmp_path / "one.npy").read_bytes() == (tmp_path / "two.npy").read_bytes()
    write_jsonl(source, records(230, 3))
    assert run(source, tmp_path / "two.npy", begin="update").computed == 3


@pytest.mark.usefixtures("two_cores")
@pytest.mark.parametrize(("fastest", "parts"), [(1, 12), (2, 12), (2, 11)])
def test_a_number_that_is_measured_gives_the_same_bytes(fastest, parts, tmp_path, monkeypatch):
    """As on a machine of two sockets; from twelve parts on one process and two are tried."""
    monkeypatch.setattr("nimbed.bulk.job.cores_by_place", lambda: [1, 1])
    monkeypatch.setattr("nimbed.bulk.job.choose", partial(with_speeds, {fastest: 2000.0}))
    source = write_jsonl(tmp_path / "in.jsonl", records(20 * parts))
    one = run(source, tmp_path / "one.npy", processes=1)
    assert one.describe().splitlines()[2] == "by 1 process: as it was asked for"
    summary = run(source, tmp_path / "auto.npy", processes="auto")
    assert summary.computed == 20 * parts
    assert summary.processes.processes == (fastest if parts == 12 else 1)
    assert ("1 process " in summary.processes.reason) == (parts == 12)
    assert (tmp_path / "one.npy").read_bytes() == (tmp_path / "auto.npy").read_bytes()


def with_speeds(rates, cores, threads, missing, make, spoiled):
    """The parts are made, and other speeds are said of them."""

    def measured(count):
        speeds = list(make(count))
        assert len(speeds) == count
        assert all(speed.seconds > 0 for speed in speeds)
        return [Speed(1000, 1000 * count / rates.get(count, 1000.0))] * count

    return choose(cores, len(cores), missing, measured, spoiled)


@pytest.mark.usefixtures("two_cores")
def test_an_error_of_a_process_is_the_jobs(tmp_path):
    rows = records(230)
    rows[150] = {"text": 3}
    source = write_jsonl(tmp_path / "in.jsonl", rows)
    assert run(source, tmp_path / "out.parquet", on_error="skip").skipped == {"not a string": 1}
    assert len(content(tmp_path / "out.parquet")) == 12
    from nimbed.bulk import plan

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nimbed.bulk.job.make_plan", lambda *a, **k: plan.make_plan(*a, **{**k, "strict": False}))
        with pytest.raises(InputError, match=r'in\.jsonl, line 151: "text" is int'):
            run(source, tmp_path / "raise.parquet")


@pytest.mark.usefixtures("two_cores")
def test_a_process_that_dies_is_told(tmp_path, monkeypatch):
    source = write_jsonl(tmp_path / "in.jsonl", records(230))
    with monkeypatch.context() as patch:
        patch.setattr("nimbed.bulk.workers.pickle.dumps", lambda _: b"no task")
        with pytest.raises(BackendError, match="a process of the job ended with status 1"):
            run(source, tmp_path / "out.npy")
    assert run(source, tmp_path / "out.npy").rows == 230


def test_a_program_without_an_interpreter(tmp_path, monkeypatch):
    monkeypatch.setattr("nimbed._loading.child_process.interpreter", lambda: None)
    with pytest.raises(InputError, match="needs a Python interpreter"):
        run(write_jsonl(tmp_path / "in.jsonl", records(60)), tmp_path / "out.npy")
