"""Rows of Parquet files."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from nimbed._files.lines import Position
from nimbed._text.rows import BadRow, Fault, Row, column_names
from nimbed.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nimbed._text.rows import Columns

    _Make = Callable[[dict[str, Any]], tuple[str, str | None]]

_BATCH_ROWS = 1024


def read_parquet(path: str, start: Position, columns: Columns) -> Iterator[Row | BadRow]:
    """Rows from a position on; row groups before it are not read.

    Raises:
        InputError: the file cannot be read, or has no such column; names it.
        MissingExtraError: pyarrow is not installed.
    """
    make = columns.reader()
    with _opened(path, columns) as file:
        groups, begins = _groups_from(file, start.offset)
        number = begins
        for batch in file.iter_batches(_BATCH_ROWS, row_groups=groups, columns=columns.wanted):
            if number + len(batch) <= start.offset:
                number += len(batch)
                continue
            for values in batch.to_pylist():
                number += 1
                if number > start.offset:
                    yield _row(make, values, path, number)


def _row(make: _Make, values: dict[str, Any], path: str, number: int) -> Row | BadRow:
    end = Position(number, number)
    try:
        return Row(*make(values), path, number, end)
    except Fault as err:
        return BadRow(err.kind, err.reason, path, number, end)


def surely_rows(path: str, columns: Columns) -> int | None:
    """How many rows, where the file's own statistics say that none is bad; None where they must be looked at."""
    with _opened(path, columns) as file:
        schema, metadata = file.schema_arrow, file.metadata
        strings = {"string", "large_string", "string_view"}
        wholes = {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
        for name in columns.wanted:
            allowed = strings | (wholes if name == columns.id and name not in columns.text else set())
            if str(schema.field(name).type) not in allowed:
                return None
            at = next(i for i in range(metadata.num_columns) if metadata.schema.column(i).path == name)
            found = [metadata.row_group(group).column(at).statistics for group in range(metadata.num_row_groups)]
            if any(one is None or not one.has_null_count or one.null_count for one in found):
                return None
        return int(metadata.num_rows) if len(columns.text) == 1 else None


def _groups_from(file: Any, offset: int) -> tuple[list[int], int]:  # noqa: ANN401 (pyarrow has no types)
    """The row groups from a row on, and the number of rows before them."""
    counts = [file.metadata.row_group(group).num_rows for group in range(file.metadata.num_row_groups)]
    before, first = 0, 0
    while first < len(counts) and before + counts[first] <= offset:
        before += counts[first]
        first += 1
    return list(range(first, len(counts))), before


@contextmanager
def _opened(path: str, columns: Columns) -> Iterator[Any]:
    try:
        import pyarrow as pa
        from pyarrow.parquet import ParquetFile
    except ImportError as err:
        raise MissingExtraError(f'reading {path} needs pyarrow: pip install "nimbed[parquet]"') from err
    if path.endswith((".gz", ".zst")):
        raise InputError(f"{path}: Parquet files are compressed inside; unpack this one")
    try:
        with ParquetFile(path) as file:
            names = file.schema_arrow.names
            if missing := [name for name in columns.wanted if name not in names]:
                say = f'no column "{missing[0]}", only {column_names(names)}; name the one with the text'
                raise InputError(f"{path}: {say}")
            yield file
    except (OSError, pa.ArrowException) as err:
        raise InputError(f"{path} cannot be read as Parquet: {err}") from err
