"""Files by their bytes: hashes of them, and whether they are still as they were."""

from __future__ import annotations

import hashlib
import os
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nimbed.errors import ArtefactError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path


@dataclass(frozen=True)
class Unchanged:
    """Files as they were when this was made: device, inode, size and time of the last write, by path.

    An engine maps a file into memory, so that what is written into it afterwards would change vectors.
    """

    _seen: Mapping[Path, tuple[int, ...]]

    @classmethod
    def of(cls, paths: Iterable[Path]) -> Unchanged:
        """These files as they are now."""
        return cls({path: _state(path) for path in paths})

    def only(self, *names: str) -> Unchanged:
        """Of these names alone."""
        return Unchanged({path: seen for path, seen in self._seen.items() if path.name in names})

    def check(self, *, replaced: bool = True) -> None:
        """Raise where a file was written into.

        Args:
            replaced: whether another file may have its name by now, or none: who has it open has the old one still.

        Raises:
            ArtefactError: one was; names it.
        """
        for path, seen in self._seen.items():
            try:
                now = _state(path)
            except OSError:
                now = ()
            if now != seen and not (replaced and now[:2] != seen[:2]):
                raise ArtefactError(
                    f"{path} was written into while it was open, so that its vectors would not be those that their "
                    "fingerprint stands for: open the model again, and let a new file take the old one's name (mv)"
                )


def _state(path: Path) -> tuple[int, ...]:
    found = os.stat(path)  # noqa: PTH116 (each batch waits for it, and Path.stat takes longer)
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def sha256_of(path: Path, count: int | None = None) -> str:
    """sha256 of a file's bytes, or of its first ``count``."""
    digest = hashlib.sha256()
    left = count
    for block in _blocks(path):
        digest.update(block if left is None else block[:left])
        if left is not None and (left := max(0, left - len(block))) == 0:
            break
    return digest.hexdigest()


def crc32_of(path: Path) -> int:
    """CRC-32 of a file's bytes."""
    crc = 0
    for block in _blocks(path):
        crc = zlib.crc32(block, crc)
    return crc


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            yield block
