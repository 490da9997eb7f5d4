"""The child's side of a job in several processes."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
from tests.support.bulk_jobs import open_encoder, records, write_jsonl

from nimbed._text.rows import Columns
from nimbed.bulk.part_files import RECORDS
from nimbed.bulk.plan import make_plan
from nimbed.bulk.request import Request
from nimbed.bulk.worker import Task, main


@pytest.mark.parametrize("fingerprint", [None, "another"])
def test_its_parts_are_made_and_reported(fingerprint, tmp_path):
    source = str(write_jsonl(tmp_path / "in.jsonl", records(50)))
    (tmp_path / "job" / RECORDS).mkdir(parents=True)
    cpus = tuple(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else ()
    with open_encoder() as encoder:
        task = Task(
            request=Request(inputs=(source,), out=Path("/out.npy"), columns=Columns()),
            folder=tmp_path / "job",
            plan=make_plan([source], None, Columns(), 20, strict=True),
            numbers=(0, 2),
            encoder=encoder,
            fingerprint=fingerprint or encoder.fingerprint,
            previous=None,
            cpus=cpus,
        )
        payload = pickle.dumps(task)
    reports = []
    assert main(payload, lambda **record: reports.append(record), 0.0) == 0
    if fingerprint:
        assert [report["kind"] for report in reports] == ["error"]
        assert "fingerprint" in reports[0]["message"]
        return
    assert [(one["kind"], one["record"]["part"], one["record"]["rows"]) for one in reports] == [
        ("part", 0, 20), ("part", 2, 10),
    ]  # fmt: skip
    assert sorted(path.name for path in (tmp_path / "job").glob("part*")) == ["part-000000.rows", "part-000002.rows"]
