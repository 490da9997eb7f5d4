"""Lines of UTF-8 text files, plain or packed by gzip, each checked and with its number."""

from __future__ import annotations

import gzip
import zlib
from itertools import count
from typing import TYPE_CHECKING

from nimbed.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def numbered_lines(
    path: Path, *, newline: str | None = None, max_characters: int | None = None
) -> Iterator[tuple[int, str]]:
    """(number from 1 on, line with its line end) of a file; one whose name ends in ``.gz`` is unpacked.

    Args:
        path: of the file; a byte order mark at its beginning is left out.
        newline: where lines end, as for :func:`open`.
        max_characters: that a line may have; None reads lines of any length.

    Raises:
        InputError: the file cannot be read, or a line is too long, is not UTF-8 or holds a NUL character; names it.
    """
    opener = gzip.open if path.suffix == ".gz" else open
    size = -1 if max_characters is None else max_characters + 1
    try:
        # Bytes that are not UTF-8 become surrogates, so that their line can be named.
        with opener(path, "rt", encoding="utf-8-sig", errors="surrogateescape", newline=newline) as file:
            for number in count(1):
                line = file.readline(size)
                if not line:
                    return
                _check(line, f"{path}, line {number}", max_characters)
                yield number, line
    except (OSError, EOFError, zlib.error) as err:
        raise InputError(f"{path} cannot be read: {err}") from err


def _check(line: str, place: str, max_characters: int | None) -> None:
    try:
        line.encode()
    except UnicodeEncodeError as err:
        raise InputError(f"{place}: not UTF-8 at character {err.start + 1}; convert the file") from err
    if "\0" in line:
        raise InputError(f"{place}: holds a NUL character at {line.index(chr(0)) + 1}: this is no text file")
    if max_characters is not None and len(line) > max_characters:
        raise InputError(f"{place}: more than {max_characters} characters in one line; put one text in each line")
