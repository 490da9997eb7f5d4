"""Which rows make which part: laid down before the first is embedded, so that any part can be made by itself."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING, NamedTuple

from nimbed._files.lines import Position
from nimbed._text.parquet_rows import surely_rows
from nimbed._text.rows import BadRow, Row
from nimbed.bulk.inputs import look_at
from nimbed.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from nimbed._text.rows import Columns
    from nimbed.bulk.inputs import InputFile


class Part(NamedTuple):
    """Some rows that stand one behind the other.

    Attributes:
        first: number of its first row among all.
        rows: how many, bad ones too; None where that will be known when they have been read.
        file: number of the file in which it begins; it may go on in the next.
        start: where in that.
    """

    first: int
    rows: int | None
    file: int
    start: Position


@dataclass(frozen=True)
class Plan:
    """All parts of a job.

    Attributes:
        files: as they were when the plan was made.
        parts: by number; none of what can be read only once.
    """

    files: tuple[InputFile, ...]
    parts: tuple[Part, ...]

    @property
    def once(self) -> bool:
        """Whether the input can be read only once, so that its parts are not known before."""
        return any(file.once for file in self.files)

    @property
    def rows(self) -> int | None:
        """How many the files have, where that is known."""
        return None if self.once else sum(part.rows or 0 for part in self.parts)

    def rows_of(self, part: Part, columns: Columns) -> Iterator[Row | BadRow]:
        """The rows of a part.

        Raises:
            InputError: the files have fewer than they had.
        """
        read = 0
        for row in islice(_from(self.files[part.file :], part.start, columns), part.rows):
            read += 1
            yield row
        if part.rows is not None and read != part.rows:
            path, now = self.files[-1].path, part.first + read
            raise InputError(
                f"{path} had {self.rows} texts at first, then {now}: it was changed while it was read; run again"
            )

    def stream(self, columns: Columns, part_rows: int) -> Iterator[tuple[Part, Iterator[Row | BadRow]]]:
        """The parts of what can be read only once, one after another; each must be read before the next."""
        rows = _from(self.files, Position(), columns)
        for first in range(0, 2**63 - 1, part_rows):
            head = next(rows, None)
            if head is None:
                return
            yield Part(first, None, 0, Position()), chain([head], islice(rows, part_rows - 1))


def make_plan(
    paths: Sequence[str],
    kind: str | None,
    columns: Columns,
    part_rows: int,
    *,
    strict: bool,
    seen: Callable[[int], object] = lambda rows: None,  # noqa: ARG005
) -> Plan:
    """Read all files once: their hashes, where each part begins, and (if strict) whether a row is bad.

    Args:
        paths: as :func:`nimbed.bulk.inputs.find_inputs` gives them.
        kind: of the files; None goes by their names.
        columns: that are read.
        part_rows: rows of a part.
        strict: whether a bad row is an error.
        seen: told of rows that were looked at.

    Raises:
        InputError: a file cannot be read, or a row is bad; names file and line.
    """
    files = tuple(look_at(path, kind) for path in paths)
    if any(file.once for file in files):
        return Plan(files, ())
    starts = _Starts(part_rows)
    for number, file in enumerate(files):
        known = surely_rows(file.path, columns) if file.kind == "parquet" else None
        if known is not None:
            starts.uniform(number, known)
            continue
        end = Position()
        for rows in _thousands(file.rows(columns)):
            for row in rows:
                if strict and isinstance(row, BadRow):
                    raise row.error()
                starts.row(number, end)
                end = row.end
            seen(len(rows))
    return Plan(files, starts.parts())


class _Starts:
    """Where parts begin, as rows are counted."""

    def __init__(self, part_rows: int) -> None:
        self._part_rows = part_rows
        self._rows = 0
        self._found: list[tuple[int, Position]] = []

    def row(self, file: int, start: Position) -> None:
        """One more row, which begins there."""
        if self._rows % self._part_rows == 0:
            self._found.append((file, start))
        self._rows += 1

    def uniform(self, file: int, rows: int) -> None:
        """Rows whose positions are their numbers."""
        first = -self._rows % self._part_rows
        self._found += [(file, Position(row, row)) for row in range(first, rows, self._part_rows)]
        self._rows += rows

    def parts(self) -> tuple[Part, ...]:
        """All of them."""
        step = self._part_rows
        return tuple(
            Part(index * step, min(step, self._rows - index * step), file, start)
            for index, (file, start) in enumerate(self._found)
        )


def _from(files: Sequence[InputFile], start: Position, columns: Columns) -> Iterator[Row | BadRow]:
    for number, file in enumerate(files):
        yield from file.rows(columns, start if number == 0 else Position())


def _thousands(rows: Iterable[Row | BadRow]) -> Iterator[list[Row | BadRow]]:
    iterator = iter(rows)
    while some := list(islice(iterator, 1000)):
        yield some
