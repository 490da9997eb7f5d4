"""Files that appear when they are complete and on the disk."""

from __future__ import annotations

import os
import secrets
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from nimbed.errors import InputError, NimbedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def writing(path: Path, remedy: str = "") -> Iterator[None]:
    """Say which file it is that cannot be written.

    Raises:
        InputError: in place of an OSError of the system.
    """
    try:
        yield
    except OSError as err:
        if isinstance(err, NimbedError):  # of the texts or the engine
            raise
        raise InputError(f"{path} cannot be written: {err}{remedy}") from err


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """A file to write, which takes the place of ``path`` when the block ends; where it fails, nothing is left.

    Raises:
        OSError: it cannot be written.
    """
    # A name of its own: two runs may write to one place, and the file is then the whole of one of them.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def remove_unfinished(path: Path) -> None:
    """Remove what writers of a file left that were killed; for who alone writes it."""
    for other in path.parent.iterdir():
        if other.name.startswith(f".{path.name}.") and other.suffix == ".tmp":
            other.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Put names that were given in a folder on the disk; where a folder cannot be synced, its system does that."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Put a file's content on the disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())
