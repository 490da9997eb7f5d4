"""The files of a job: found, and known again by their content."""

from __future__ import annotations

import glob
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nimbed._files.digests import sha256_of
from nimbed._files.lines import STANDARD_INPUT, Position
from nimbed._files.user_paths import expanded
from nimbed._text.text_files import KINDS, kind_of
from nimbed.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nimbed._text.rows import BadRow, Columns, Row


@dataclass(frozen=True, kw_only=True)
class InputFile:
    """A file as it was when the job began.

    Attributes:
        path: absolute; "-" is standard input.
        kind: one of :data:`nimbed._text.text_files.KINDS`.
        bytes: its size.
        mtime_ns: when it was written last.
        sha256: of its content; "" of what can be read only once.
    """

    path: str
    kind: str
    bytes: int = 0
    mtime_ns: int = 0
    sha256: str = ""

    @property
    def once(self) -> bool:
        """Whether it is a pipe, which can be read only once."""
        return not self.sha256

    def rows(self, columns: Columns, start: Position = Position()) -> Iterator[Row | BadRow]:  # noqa: B008 (frozen)
        """Its rows from a position on.

        Raises:
            InputError: it cannot be read; names it.
        """
        return KINDS[self.kind](self.path, start, columns)

    def unchanged(self) -> bool:
        """Whether it is there with the content of then: by size and time of the last write, else by its hash.

        Raises:
            InputError: it is gone, or cannot be read.
        """
        size, mtime_ns = _state(self.path)
        return size == self.bytes and (mtime_ns == self.mtime_ns or _digest(self.path) == self.sha256)

    def only_grown(self) -> bool:
        """Whether it begins with all that was in it then."""
        size, mtime_ns = _state(self.path)
        if (size, mtime_ns) == (self.bytes, self.mtime_ns):
            return True
        return size >= self.bytes and _digest(self.path, self.bytes) == self.sha256


def find_inputs(patterns: Sequence[str | os.PathLike[str]], kind: str | None = None) -> list[str]:
    """The paths that names and patterns stand for; a pattern's are in the order of their names.

    Raises:
        InputError: a pattern finds no file, or a kind is not known.
    """
    if kind is not None and kind not in KINDS:
        raise InputError(f"kind={kind!r} is not one of {', '.join(KINDS)}")
    found: list[str] = []
    for given in patterns:
        pattern = os.fspath(given)
        path = None if pattern == STANDARD_INPUT else expanded(pattern)
        if path is None:
            found.append(pattern)
        elif path.exists() or not glob.has_magic(pattern):
            found.append(str(path.absolute()))
        elif matched := _matching(path):
            found += matched
        else:
            raise InputError(f"{pattern} matches no file; put it in quotes if the shell should not expand it")
    if len(set(found)) < len(found):
        twice = next(path for path in found if found.count(path) > 1)
        raise InputError(f"{twice} is named twice, so that its rows would be embedded twice; name it once")
    if not found:
        raise InputError("there is no input; name a file, or - for standard input")
    return found


def _matching(pattern: Path) -> list[str]:
    place = pattern.absolute()
    found = Path(place.anchor).glob(str(place.relative_to(place.anchor)))
    return sorted(str(path) for path in found if path.is_file())


def look_at(path: str, kind: str | None = None) -> InputFile:
    """A file as it is now; all of it is read for its hash.

    Raises:
        InputError: it cannot be read.
    """
    kind = kind or kind_of(path)
    if path == STANDARD_INPUT:
        return InputFile(path=path, kind=kind)
    size, mtime_ns = _state(path)
    if not stat.S_ISREG(Path(path).stat().st_mode):
        return InputFile(path=path, kind=kind)
    return InputFile(path=path, kind=kind, bytes=size, mtime_ns=mtime_ns, sha256=_digest(path))


def _state(path: str) -> tuple[int, int]:
    try:
        found = Path(path).stat()
    except OSError as err:
        raise InputError(f"{path} cannot be read: {err.strerror}") from err
    return found.st_size, found.st_mtime_ns


def _digest(path: str, count: int | None = None) -> str:
    try:
        return sha256_of(Path(path), count)
    except OSError as err:
        raise InputError(f"{path} cannot be read: {err}") from err
