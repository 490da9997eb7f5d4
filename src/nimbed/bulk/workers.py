"""A job in several processes, each on cores of its own: where one process stops scaling."""

from __future__ import annotations

import os
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nimbed import errors
from nimbed._loading import child_process
from nimbed._machine import cpu_groups
from nimbed.bulk.manifest import record_of_json
from nimbed.bulk.processes import Speed
from nimbed.bulk.worker import Task
from nimbed.errors import BackendError, InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nimbed import Encoder
    from nimbed.bulk.manifest import PartRecord
    from nimbed.bulk.plan import Plan
    from nimbed.bulk.previous import Previous
    from nimbed.bulk.request import Request

_KEPT = "what is complete is kept: run the same command again"


def make_in_processes(
    request: Request,
    folder: Path,
    plan: Plan,
    numbers: Sequence[int],
    encoder: Encoder,
    previous: Previous | None,
    done: Callable[[PartRecord, Speed], None],
    processes: int,
) -> None:
    """Make parts in several processes, which take every n-th of them.

    Args:
        request: of the job.
        folder: of the parts.
        plan: of the job.
        numbers: of the parts.
        encoder: whose copies they open.
        previous: whose vectors an update takes.
        done: told of each part when it is on the disk, one after another, and how fast it was made.
        processes: how many; there are no more than parts and cores.

    Raises:
        NimbedError: a process failed; the others are ended.
    """
    python = child_process.interpreter()
    if python is None:
        raise InputError("processes= needs a Python interpreter, and this program has none that could be started")
    groups = cpu_groups(min(processes, len(numbers)))
    tasks = [
        Task(
            request=request,
            folder=folder,
            plan=plan,
            numbers=tuple(numbers[index :: len(groups)]),
            encoder=encoder,
            fingerprint=encoder.fingerprint,
            previous=previous,
            cpus=cpus,
        )
        for index, cpus in enumerate(groups)
    ]
    lock, stop = threading.Lock(), threading.Event()
    with ThreadPoolExecutor(len(tasks), thread_name_prefix="nimbed-bulk") as threads:
        running = [threads.submit(_run, python, task, done, lock, stop) for task in tasks]
        for one in running:
            one.result()


def _run(
    python: str, task: Task, done: Callable[[PartRecord, Speed], None], lock: threading.Lock, stop: threading.Event
) -> None:
    try:
        with child_process.started(
            python,
            "nimbed.bulk.worker",
            pickle.dumps(task),
            path=child_process.import_path(),
            environment=os.environ,
            folder=str(Path.cwd()),
        ) as child:
            for report in child.reports():
                if stop.is_set():
                    return
                _take(report, done, lock)
            _refuse(child.fault())
    except BaseException as err:
        stop.set()
        if isinstance(err, OSError) and not isinstance(err, errors.NimbedError):
            raise BackendError(f"a process of the job could not be run: {err}; {_KEPT}") from err
        raise


def _refuse(fault: str | None) -> None:
    if fault is not None:
        raise BackendError(f"a process of the job {fault}; {_KEPT}")


def _take(report: dict[str, Any], done: Callable[[PartRecord, Speed], None], lock: threading.Lock) -> None:
    if report["kind"] == "error":
        raise getattr(errors, report["type"], BackendError)(report["message"])
    with lock:
        done(record_of_json(report["record"]), Speed(*report["speed"]))
