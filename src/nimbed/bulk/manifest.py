"""What a job has done so far: its key, and a line for each part that is on the disk.

``job.json`` holds the key and the plan and is written once. ``parts.jsonl`` grows by a line whenever a part has been
written, synced and renamed; the last line about a part counts. A line that was cut short by a killed process stands for
a part that was not named, and is removed.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from nimbed._files.digests import sha256_of
from nimbed._files.json import Fields, read_json
from nimbed._files.lines import Position
from nimbed._files.records import record_of
from nimbed._files.whole import sync_folder, whole_file, writing
from nimbed.bulk.inputs import InputFile
from nimbed.bulk.plan import Part, Plan
from nimbed.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

VERSION = 1
JOB, PARTS = "job.json", "parts.jsonl"


@dataclass(frozen=True, kw_only=True)
class FileState:
    """A file of a part as it was written."""

    bytes: int
    mtime_ns: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> FileState:
        """As it is now."""
        found = path.stat()
        return cls(bytes=found.st_size, mtime_ns=found.st_mtime_ns, sha256=sha256_of(path))

    def looks_like(self, path: Path) -> bool:
        """By size and time, without reading it."""
        try:
            found = path.stat()
        except FileNotFoundError:
            return False
        return (found.st_size, found.st_mtime_ns) == (self.bytes, self.mtime_ns)

    def matches(self, path: Path) -> bool:
        """By its content."""
        try:
            return path.stat().st_size == self.bytes and sha256_of(path) == self.sha256
        except FileNotFoundError:
            return False


@dataclass(frozen=True, kw_only=True)
class PartRecord:
    """A part that is on the disk.

    Attributes:
        part: its number.
        input: the file in which it begins.
        first: number of its first row.
        rows: that it holds.
        kept: of them, those whose vectors an update kept.
        truncated: of them, those that lost tokens.
        skipped: bad rows among its own, by kind of fault.
        files: by name.
    """

    part: int
    input: str
    first: int
    rows: int
    kept: int
    truncated: int
    skipped: Mapping[str, int]
    files: Mapping[str, FileState]

    @property
    def read(self) -> int:
        """Rows of the input that it stands for."""
        return self.rows + sum(self.skipped.values())


class Manifest:
    """The folder's two files.

    Args:
        folder: that holds them; the parts are beside it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.parts: dict[int, PartRecord] = {}

    def begin(self, key: Mapping[str, Any], plan: Plan) -> None:
        """Write the key and the plan; forget all parts."""
        files = [asdict(file) for file in plan.files]
        parts = [[part.first, part.rows, part.file, *part.start] for part in plan.parts]
        path = self.folder / JOB
        with writing(path):
            self.folder.mkdir(parents=True)
        with writing(path), whole_file(path) as file:
            text = json.dumps({"version": VERSION, "key": key, "inputs": files, "parts": parts})
            file.write(text.encode())

    def read_job(self) -> tuple[Fields, Plan]:
        """The key and the plan.

        Raises:
            InputError: the file is damaged, or of another version.
        """
        path = self.folder / JOB
        job = read_json(path, error=InputError, remedy="begin anew with begin='restart'")
        if job.whole("version") != VERSION:
            raise job.wrong("version", f"{VERSION}, which this nimbed writes")
        try:
            files = tuple(record_of(InputFile, values, {}) for values in job["inputs"])
            parts = tuple(Part(first, rows, file, Position(*start)) for first, rows, file, *start in job["parts"])
        except (KeyError, TypeError, ValueError) as err:
            raise InputError(f"{path} is damaged: {err}; begin anew with begin='restart'") from err
        return job.fields("key"), Plan(files, parts)

    def read_parts(self) -> None:
        """What was named so far; what follows the last whole line is cut off.

        Raises:
            InputError: a whole line is no record.
        """
        path = self.folder / PARTS
        if not path.exists():
            return
        content = path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            with path.open("rb+") as file:
                file.truncate(len(whole))
                os.fsync(file.fileno())
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                record = record_of_json(json.loads(line))
            except (ValueError, TypeError, KeyError) as err:
                raise InputError(
                    f"{path}, line {number} is damaged: {err}; remove that line, or begin anew with begin='restart'"
                ) from err
            self.parts[record.part] = record

    def add(self, record: PartRecord) -> None:
        """Name a part that is on the disk; it is named when this returns."""
        line = json.dumps(asdict(record)) + "\n"
        path = self.folder / PARTS
        with writing(path), path.open("ab") as file:
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())
        if not self.parts:
            sync_folder(self.folder)
        self.parts[record.part] = record


def record_of_json(values: dict[str, Any]) -> PartRecord:
    """As :func:`record_of`, in a tenth of the time: there may be a hundred thousand.

    Raises:
        TypeError, KeyError: it is no such record.
    """
    values["files"] = {name: FileState(**state) for name, state in values["files"].items()}
    record = PartRecord(**values)
    if type(record.part) is not int or type(record.rows) is not int:
        raise TypeError("no numbers")
    return record
