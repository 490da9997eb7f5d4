"""Lines of UTF-8 files, plain or packed by gzip or zstd, each checked; read on from any position."""

from __future__ import annotations

import gzip
import io
import sys
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple, cast

from nimbed.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Iterator

STANDARD_INPUT = "-"
_BOM = b"\xef\xbb\xbf"


class Position(NamedTuple):
    """A place in a file at which rows can be read on.

    Attributes:
        offset: bytes (of what is packed: unpacked ones) or, of Parquet, rows from the file's beginning.
        line: the number of lines before it; of Parquet, rows.
    """

    offset: int = 0
    line: int = 0


class Line(NamedTuple):
    """A line as text, with its line end.

    Attributes:
        text: what is not UTF-8 in it replaced.
        number: from 1 on.
        end: the position behind it.
        fault: (kind, reason) where it is no text.
    """

    text: str
    number: int
    end: Position
    fault: tuple[str, str] | None = None


def read_lines(
    path: str,
    start: Position = Position(),  # noqa: B008 (frozen)
    *,
    max_characters: int | None = None,
) -> Iterator[Line]:
    """The lines from a position on. A byte order mark at the file's beginning is left out.

    Args:
        path: of the file; "-" is standard input.
        start: from where on.
        max_characters: of a line; what is longer is a fault. None takes lines of any length.

    Raises:
        InputError: the file cannot be read; names it.
    """
    try:
        with _opened(path) as file:
            if start.offset:
                _skip(file, start.offset)
            yield from _lines(file, *start, max_characters)
    except (OSError, EOFError, zlib.error) as err:
        raise InputError(f"{path} cannot be read: {err}") from err


def _lines(file: IO[bytes], offset: int, number: int, most: int | None) -> Iterator[Line]:
    size = -1 if most is None else 4 * most  # bytes of UTF-8
    while raw := file.readline(size):
        length, cut = len(raw), b""
        while len(raw) == size and not raw.endswith(b"\n") and (cut := file.readline(size)):
            length += len(cut)  # the rest of a line that is too long is read and forgotten
            if cut.endswith(b"\n"):
                break
        if offset == 0:
            raw = raw.removeprefix(_BOM)
        offset += length
        number += 1
        yield _line(raw, number, Position(offset, number), most, whole=not cut)


def _line(raw: bytes, number: int, end: Position, most: int | None, *, whole: bool) -> Line:
    try:
        text = raw.decode()
    except UnicodeDecodeError as err:
        text, before = raw.decode(errors="replace"), len(raw[: err.start].decode())
        fault = ("not UTF-8", f"not UTF-8 at character {before + 1}; convert the file")
        return Line(text.replace("\0", " "), number, end, fault)
    if b"\0" in raw:
        fault = ("NUL", f"holds a NUL character at {text.index(chr(0)) + 1}: this is no text file")
        return Line(text.replace("\0", " "), number, end, fault)
    if most is not None and (not whole or len(text) > most):
        fault = ("too long", f"more than {most} characters in one line; put one text in each line")
        return Line(text[:most], number, end, fault)
    return Line(text, number, end)


@contextmanager
def _opened(path: str) -> Iterator[IO[bytes]]:
    if path == STANDARD_INPUT:
        yield sys.stdin.buffer
        return
    if path.endswith(".zst"):
        with _zstd(path) as file:
            yield file
        return
    with gzip.open(path, "rb") if path.endswith(".gz") else Path(path).open("rb") as file:
        yield cast("IO[bytes]", file)


@contextmanager
def _zstd(path: str) -> Iterator[IO[bytes]]:
    try:
        import pyarrow as pa
    except ImportError as err:
        raise MissingExtraError(f'unpacking {path} needs pyarrow: pip install "nimbed[parquet]"') from err
    with pa.OSFile(path) as packed, pa.CompressedInputStream(packed, "zstd") as unpacked:
        yield io.BufferedReader(unpacked, 1 << 20)


def _skip(file: IO[bytes], offset: int) -> None:
    """Packed files are unpacked up to there."""
    if isinstance(file, io.BufferedReader) and isinstance(file.raw, io.FileIO):
        file.seek(offset)
        return
    while offset and (piece := file.read(min(offset, 1 << 20))):
        offset -= len(piece)
