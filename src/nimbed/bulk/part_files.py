"""A part on its way to the disk: its rows, the hashes of their texts, and what was skipped."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from typing import TYPE_CHECKING

from nimbed._files.whole import sync_file, sync_folder, writing
from nimbed.bulk.manifest import FileState

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from nimbed._text.rows import BadRow
    from nimbed.bulk.layout import Block, Format, Layout

# Of a job's folder, where its manifest is. Readers of data sets pass over names that begin so.
RECORDS = "_nimbed"
HASH_BYTES = 16


def hash_of(text: str) -> bytes:
    """By which an update knows a text again."""
    return hashlib.blake2b(text.encode(), digest_size=HASH_BYTES).digest()


def part_name(number: int, suffix: str) -> str:
    """Names sort as the parts do, up to a million of them."""
    return f"part-{number:06d}{suffix}"


def hashes_name(number: int) -> str:
    """The file of the texts' hashes, from the job's folder."""
    return f"{RECORDS}/{part_name(number, '.hashes')}"


def skipped_name(number: int) -> str:
    """The file of the rows that were skipped, from the job's folder."""
    return f"{RECORDS}/{part_name(number, '.skipped.jsonl')}"


class PartFiles:
    """The files of one part, under temporary names until :meth:`publish`.

    Args:
        folder: of the job.
        number: of the part.
        form: of the output.
        layout: of its rows.

    Raises:
        InputError: the files cannot be written; from each method.
    """

    def __init__(self, folder: Path, number: int, form: Format, layout: Layout) -> None:
        self._folder = folder
        self._names = [part_name(number, form.part_suffix), hashes_name(number), skipped_name(number)]
        for path in self._temporary():
            path.unlink(missing_ok=True)
        self.rows = 0
        self.skipped: Counter[str] = Counter()
        with _writing(self._temporary()[0]):
            self._part = form.open_part(self._temporary()[0], layout)
            self._hashes = self._temporary()[1].open("xb")

    def write(self, block: Block, hashes: Sequence[bytes]) -> None:
        """The next rows, and their texts' hashes."""
        with _writing(self._temporary()[0]):
            self._part.write(block)
            self._hashes.write(b"".join(hashes))
        self.rows += len(block.ids)

    def skip(self, row: BadRow) -> None:
        """A row of which nothing comes."""
        self.skipped[row.kind] += 1
        line = {"file": row.file, "line": row.line, "kind": row.kind, "reason": row.reason}
        with _writing(self._temporary()[2]), self._temporary()[2].open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")

    def close(self) -> None:
        """All rows were written."""
        with _writing(self._temporary()[0]):
            self._part.close()
            self._hashes.close()

    def publish(self) -> dict[str, FileState]:
        """Put the files on the disk and give them their names; returns what they are by these."""
        found: dict[str, FileState] = {}
        with _writing(self._temporary()[0]):
            for name, path in zip(self._names, self._temporary(), strict=True):
                if path.exists():
                    sync_file(path)
                    path.replace(self._folder / name)
                    found[name] = FileState.of(self._folder / name)
            sync_folder(self._folder)
            sync_folder(self._folder / RECORDS)
        return found

    def discard(self) -> None:
        """Leave nothing of it."""
        for closing in (self._part.close, self._hashes.close):
            try:
                closing()
            except (OSError, ValueError):  # the disk that is full, or closed before
                continue
        for path in self._temporary():
            path.unlink(missing_ok=True)

    def _temporary(self) -> list[Path]:
        return [path.with_name(f".{path.name}.tmp") for path in (self._folder / name for name in self._names)]


def _writing(path: Path) -> AbstractContextManager[None]:
    return writing(path, "; what is complete is kept: run the same command again")
