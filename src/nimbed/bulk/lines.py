"""Lines of a file that can be read on from a position: plain, or packed by gzip or zstd."""

from __future__ import annotations

import gzip
import io
import sys
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple, cast

from nimbed._text.text_files import MAX_CHARACTERS
from nimbed.bulk.rows import Position
from nimbed.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Iterator

STANDARD_INPUT = "-"
_MAX_BYTES = 4 * MAX_CHARACTERS  # of UTF-8
_BOM = b"\xef\xbb\xbf"


class Line(NamedTuple):
    """A line as text, with its line end.

    Attributes:
        text: what is not UTF-8 in it replaced.
        number: from 1 on.
        end: the position behind it.
        fault: (kind, reason) where it is no text that could be embedded.
    """

    text: str
    number: int
    end: Position
    fault: tuple[str, str] | None = None


def read_lines(path: str, start: Position) -> Iterator[Line]:
    """The lines from a position on. A byte order mark at the file's beginning is left out.

    Raises:
        InputError: the file cannot be read; names it.
    """
    try:
        with _opened(path) as file:
            if start.offset:
                _skip(file, start.offset)
            yield from _lines(file, *start)
    except (OSError, EOFError, zlib.error) as err:
        raise InputError(f"{path} cannot be read: {err}") from err


def _lines(file: IO[bytes], offset: int, number: int) -> Iterator[Line]:
    while raw := file.readline(_MAX_BYTES):
        length, cut = len(raw), b""
        while len(raw) == _MAX_BYTES and not raw.endswith(b"\n") and (cut := file.readline(_MAX_BYTES)):
            length += len(cut)  # the rest of a line that is too long is read and forgotten
            if cut.endswith(b"\n"):
                break
        if offset == 0:
            raw = raw.removeprefix(_BOM)
        offset += length
        number += 1
        yield _line(raw, number, Position(offset, number), whole=not cut)


def _line(raw: bytes, number: int, end: Position, *, whole: bool) -> Line:
    try:
        text = raw.decode()
    except UnicodeDecodeError as err:
        text = raw.decode(errors="replace")
        fault = ("not UTF-8", f"not UTF-8 at byte {err.start + 1}; convert the file")
        return Line(text.replace("\0", " "), number, end, fault)
    if b"\0" in raw:
        fault = ("NUL", f"holds a NUL character at {text.index(chr(0)) + 1}: this is no text file")
        return Line(text.replace("\0", " "), number, end, fault)
    if not whole or len(text) > MAX_CHARACTERS:
        fault = ("too long", f"more than {MAX_CHARACTERS} characters in one line; put one text in each line")
        return Line(text[:MAX_CHARACTERS], number, end, fault)
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
