"""Readers of rows, one for each kind of file."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

from nimbed._files.json import parse_json
from nimbed._files.lines import Line, Position, read_lines
from nimbed._text.rows import BadRow, Fault, Row, column_names
from nimbed.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nimbed._text.rows import Columns

    AnyRow = Row | BadRow
    Reader = Callable[[str, Position, Columns], Iterator[AnyRow]]

# Longer than any text that could be embedded in one piece: such a line is a file whose line ends got lost.
MAX_CHARACTERS = 1_000_000


def read_jsonl(path: str, start: Position, columns: Columns) -> Iterator[AnyRow]:
    """An object a line; blank lines are passed over."""
    make = columns.reader()
    for line in _lines(path, start):
        text, number, end, fault = line
        if text.isspace():
            continue
        if fault is not None:
            yield BadRow(*fault, path, number, end)
            continue
        try:
            yield Row(*make(parse_json(text)), path, number, end)
        except Fault as err:
            yield BadRow(err.kind, err.reason, path, number, end)
        except ValueError as err:
            names = column_names(columns.wanted)
            yield BadRow("not JSON", f"not a JSON object with {names} ({err})", path, number, end)


def read_text(path: str, start: Position, columns: Columns) -> Iterator[AnyRow]:
    """A text a line; blank lines are passed over.

    Raises:
        InputError: an id is wanted, which lines do not have.
    """
    if columns.id is not None:
        raise InputError(f"{path} holds a text a line, and no field {columns.id!r} for ids; leave that out")
    for text, number, end, fault in _lines(path, start):
        if text.isspace():
            continue
        yield BadRow(*fault, path, number, end) if fault else Row(text.rstrip("\r\n"), None, path, number, end)


def read_table(path: str, start: Position, columns: Columns, *, delimiter: str) -> Iterator[AnyRow]:
    """Tables whose first line names the columns."""
    make, header = columns.reader(), _header(path, delimiter)
    if header is None:
        return
    first, names = header
    if missing := [name for name in columns.wanted if name not in names]:
        say = f'no column "{missing[0]}", only {column_names(names)}; name the one with the text'
        raise InputError(f"{path}, line {first.line}: {say}")
    consumed = _Consumed(_lines(path, max(start, first)))
    for cells in _records(path, consumed, delimiter):
        number, end = consumed.last.number, consumed.last.end
        if fault := consumed.fault():
            yield BadRow(*fault, path, number, end)
        elif len(cells) != len(names):
            say = f"{len(cells)} columns, the header has {len(names)}"
            yield BadRow("another number of columns", say, path, number, end)
        elif cells:
            try:
                yield Row(*make(dict(zip(names, cells, strict=True))), path, number, end)
            except Fault as err:
                yield BadRow(err.kind, err.reason, path, number, end)


def _lines(path: str, start: Position) -> Iterator[Line]:
    return read_lines(path, start, max_characters=MAX_CHARACTERS)


class _Consumed:
    """Lines as the csv module takes them, which remembers how far it has come."""

    def __init__(self, lines: Iterator[Line]) -> None:
        self._lines = lines
        self._fault: tuple[str, str] | None = None
        self.last = Line("", 0, Position())

    def __iter__(self) -> Iterator[str]:
        for line in self._lines:
            self.last, self._fault = line, self._fault or line.fault
            yield line.text

    def fault(self) -> tuple[str, str] | None:
        """The first among the lines since the last call."""
        found, self._fault = self._fault, None
        return found


def _header(path: str, delimiter: str) -> tuple[Position, list[str]] | None:
    """The position behind it, and the names."""
    consumed = _Consumed(_lines(path, Position()))
    for names in _records(path, consumed, delimiter):
        if fault := consumed.fault():
            raise InputError(f"{path}, line {consumed.last.number}: {fault[1]}")
        return consumed.last.end, names
    return None


def _records(path: str, consumed: _Consumed, delimiter: str) -> Iterator[list[str]]:
    try:
        for cells in csv.reader(iter(consumed), delimiter=delimiter, strict=True):
            if cells:
                yield cells
    except csv.Error as err:
        place = f"{path}, line {consumed.last.number}"
        raise InputError(f"{place}: {err}; long texts fit into .jsonl better") from err
