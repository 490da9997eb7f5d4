"""The child's side of a job in several processes: makes its parts, and reports each when it is on the disk."""

from __future__ import annotations

import os
import pickle
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from nimbed.bulk.part import PartMaker
from nimbed.bulk.processes import Speed
from nimbed.errors import FingerprintError, NimbedError

if TYPE_CHECKING:
    from pathlib import Path

    from nimbed import Encoder
    from nimbed._loading.child_process import Report
    from nimbed.bulk.plan import Plan
    from nimbed.bulk.previous import Previous
    from nimbed.bulk.request import Request


@dataclass(frozen=True, kw_only=True)
class Task:
    """What one process is to do.

    Attributes:
        request: of the job.
        folder: of the parts.
        plan: of the job.
        numbers: the parts that are this process's.
        encoder: a copy opens the model anew, with the threads of the cores below.
        fingerprint: that its vectors must have.
        previous: whose vectors an update takes.
        cpus: that the process runs on; none where the system does not bind processes.
    """

    request: Request
    folder: Path
    plan: Plan
    numbers: tuple[int, ...]
    encoder: Encoder
    fingerprint: str
    previous: Previous | None
    cpus: tuple[int, ...]


def main(payload: bytes, report: Report, began: float) -> int:  # noqa: ARG001 (the form of a child's main)
    """Run a task; an error of nimbed's is reported, and others end the process."""
    task: Task = pickle.loads(payload)  # noqa: S301 (from the parent's own pipe)
    if task.cpus and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, task.cpus)
    try:
        with task.encoder as encoder:
            _refuse_other(encoder, task)
            _make(task, encoder, report)
    except NimbedError as err:
        report(kind="error", type=type(err).__name__, message=str(err))
    return 0


def _refuse_other(encoder: Encoder, task: Task) -> None:
    """The model's files may have been changed since the parent opened them."""
    if encoder.fingerprint != task.fingerprint:
        raise FingerprintError(
            f"a process of the job has fingerprint {encoder.fingerprint}, not {task.fingerprint}: the model was "
            "changed meanwhile; run the same command again"
        )


def _make(task: Task, encoder: Encoder, report: Report) -> None:
    maker = PartMaker(task.request, task.folder, encoder, task.request.layout(encoder), task.previous)
    for number in task.numbers:
        part, started, before = task.plan.parts[number], time.perf_counter(), encoder.stats().tokens
        files, record = maker.make(number, part, task.plan.rows_of(part, task.request.columns), lambda _: None)
        try:
            named = files.publish()
        except BaseException:
            files.discard()
            raise
        speed = Speed(encoder.stats().tokens - before, time.perf_counter() - started)
        report(kind="part", record=asdict(replace(record, files=named)), speed=speed)
