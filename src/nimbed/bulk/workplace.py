"""Where a job works: a new folder, one that a killed run left, or an output that is only checked."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from nimbed._files.whole import remove_unfinished, sync_folder, whole_file
from nimbed.bulk.lance_format import put_in_place
from nimbed.bulk.manifest import JOB, FileState, Manifest
from nimbed.bulk.part_files import RECORDS, part_name, skipped_name
from nimbed.bulk.previous import Previous
from nimbed.errors import FingerprintError, InputError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from filelock import FileLock

    from nimbed.bulk.layout import Layout
    from nimbed.bulk.plan import Plan
    from nimbed.bulk.request import Request

OUTPUT = "output.json"
_LOCK = "lock"
_OWN = ("part-", ".part-", RECORDS)


class Workplace:
    """The folder of a job's parts, and its manifest.

    Args:
        request: what is asked for.

    Attributes:
        folder: of the parts.
        manifest: of them.
        plan: of the job that was begun here before; None of a new one.
        damaged: files that were cut short or altered since they were written.

    Raises:
        InputError: an input has changed since the job was begun, or the output was not made by a job.
    """

    def __init__(self, request: Request) -> None:
        self._request = request
        self.folder = request.work
        self.plan: Plan | None = None
        self.damaged: list[str] = []
        self._key: Mapping[str, Any] = {}
        self._lock: FileLock | None = None
        if request.form.folder and request.out.exists() and not (request.out / RECORDS / JOB).is_file():
            raise InputError(
                f"{request.out} exists and is no output of this command; remove it, or choose another name"
            )
        if request.begin == "restart":
            self.forget()
        elif (self.folder / RECORDS / JOB).is_file():
            self._take_up(self.folder)
        elif request.form.folder and request.out.exists() and self._is_current():
            self._take_up(request.out)
        self.manifest = Manifest(self.folder / RECORDS)

    def previous(self, key: Mapping[str, Any], layout: Layout) -> Previous | None:
        """The complete output of before, of an update.

        Raises:
            NimbedError: its vectors are not those that would be computed, or it was altered.
        """
        request = self._request
        if request.begin != "update" or self.folder == request.out or not (request.records / RECORDS / JOB).is_file():
            return None
        if not request.form.folder:
            _check_output(request.records / RECORDS / OUTPUT, request.out)
        previous = Previous(request.records, request.out, request.form)
        previous.suits(key, layout)
        return previous

    def open(self, key: Mapping[str, Any], plan: Plan) -> None:
        """Begin, or go on where the job was left.

        Raises:
            FingerprintError: it was begun with another model or engine.
            InputError: it was begun with other options, or another process runs it.
        """
        if self.plan is None:
            if (self.folder / RECORDS / JOB).exists():
                raise InputError(f"{self.folder} was begun by another run meanwhile; wait for its end")
            self.forget()  # of a run that was killed before it had begun
            self.manifest.begin(key, plan)
            self._hold()
            return
        self._hold()
        for name, value in key.items():
            if self._key.get(name) != value:
                error = FingerprintError if name == "fingerprint" else InputError
                raise error(
                    f"{self.folder} was begun with {name}={self._key.get(name)!r}, now it is {value!r}; finish it as "
                    "it was begun, or begin anew with begin='restart'"
                )
        self.manifest.read_parts()
        self._drop(lambda path, state: state.looks_like(path) or state.matches(path), known=())

    def verify(self, made: set[int]) -> bool:
        """Read all parts that others than this run have made; whether each is as it was written."""
        return not self._drop(lambda path, state: state.matches(path), known=made)

    def finish(self, layout: Layout) -> Path | None:
        """Make the output of the parts; returns the file that lists what was skipped, if anything was."""
        request, form = self._request, self._request.form
        numbers = sorted(self.manifest.parts)
        skipped = self._join_skipped(numbers)
        remove_unfinished(request.out.resolve())
        self._release()
        if self.folder == request.out:
            return skipped
        if form.folder:
            put_in_place(self.folder, request.out)
            sync_folder(request.out.parent)
            return skipped
        form.join((self.folder / part_name(n, form.part_suffix) for n in numbers), request.out, layout)
        shutil.rmtree(request.records, ignore_errors=True)
        if request.begin == "update":
            self._keep_records()
        shutil.rmtree(self.folder)
        return skipped

    def forget(self) -> None:
        """Remove what there is of the job."""
        if self.folder.exists():
            strange = [path.name for path in self.folder.iterdir() if not path.name.startswith(_OWN)]
            if strange:
                raise InputError(f"{self.folder} holds {strange[0]!r}, which is not a job's; move it away")
            shutil.rmtree(self.folder)

    def leave(self) -> None:
        """After a failure: keep what can be gone on from."""
        held = self._release()
        if held and self.folder != self._request.out and not self.manifest.parts:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _hold(self) -> None:
        from filelock import FileLock, Timeout

        self._lock = FileLock(self.folder / RECORDS / _LOCK, timeout=0)
        try:
            self._lock.acquire()
        except Timeout as err:
            self._lock = None
            raise InputError(f"{self.folder} is another process's, which runs the same job; wait for its end") from err

    def _release(self) -> bool:
        """Whether the folder was this process's."""
        if self._lock is None:
            return False
        self._lock.release()
        (self.folder / RECORDS / _LOCK).unlink(missing_ok=True)
        self._lock = None
        return True

    def _take_up(self, folder: Path) -> None:
        self._key, plan = Manifest(folder / RECORDS).read_job()
        if plan.once:
            self.forget()
            return
        if tuple(file.path for file in plan.files) != self._request.inputs:
            raise InputError(
                f"{folder} was begun with other inputs, {len(plan.files)} files from {plan.files[0].path} on; "
                + self._remedy(folder)
            )
        for file in plan.files:
            if not file.unchanged():
                raise InputError(f"{file.path} has changed since {folder} was begun; {self._remedy(folder)}")
        self.folder, self.plan = folder, plan

    def _remedy(self, folder: Path) -> str:
        update = "compute what is new in it with begin='update', or " if folder == self._request.out else ""
        return f"{update}begin anew with begin='restart'"

    def _is_current(self) -> bool:
        """Whether the output is what an update would make of the inputs; of another kind of run it must be."""
        if self._request.begin != "update":
            return True
        _, plan = Manifest(self._request.out / RECORDS).read_job()
        same = tuple(file.path for file in plan.files) == self._request.inputs and not plan.once
        return same and all(file.unchanged() for file in plan.files)

    def _drop(self, good: Any, known: Any) -> bool:  # noqa: ANN401 (a predicate, and a set)
        """Forget parts of which a file is not good; returns whether there were any."""
        bad = [
            (number, name)
            for number, record in self.manifest.parts.items()
            if number not in known
            for name, state in record.files.items()
            if not good(self.folder / name, state)
        ]
        self.damaged += [name for _, name in bad]
        for number, _ in bad:
            self.manifest.parts.pop(number, None)
        return bool(bad)

    def _join_skipped(self, numbers: list[int]) -> Path | None:
        target = self._request.out.with_name(f"{self._request.out.name}.skipped.jsonl")
        paths = [self.folder / skipped_name(number) for number in numbers if self.manifest.parts[number].skipped]
        if not paths:
            target.unlink(missing_ok=True)
            return None
        with whole_file(target) as file:
            for path in paths:
                file.write(path.read_bytes())
        return target

    def _keep_records(self) -> None:
        """Beside the output, since an update will ask for them."""
        request = self._request
        state = FileState.of(request.out) if request.out.is_file() else None
        with whole_file(self.folder / RECORDS / OUTPUT) as file:
            file.write(json.dumps(state and asdict(state)).encode())
        request.records.mkdir()
        (self.folder / RECORDS).rename(request.records / RECORDS)
        sync_folder(request.records.parent)


def _check_output(record: Path, out: Path) -> None:
    try:
        values = json.loads(record.read_bytes())
        state = None if values is None else FileState(**values)
    except (OSError, ValueError, TypeError) as err:
        raise InputError(f"{record} cannot be read: {err}; begin anew with begin='restart'") from err
    if state is not None and not (state.looks_like(out) or state.matches(out)):
        raise InputError(f"{out} is missing or was altered since it was written; begin anew with begin='restart'")
