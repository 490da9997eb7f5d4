"""Texts from files, one at a time: JSON lines, CSV, Parquet or plain lines. An error names the file and the line."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

from nimbed._files.json import parse_json
from nimbed._files.lines import numbered_lines
from nimbed.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DELIMITERS = {".csv": ",", ".tsv": "\t"}
# Longer than any text that could be embedded in one piece: such a line is a file whose line ends got lost.
MAX_CHARACTERS = 1_000_000


def read_lines(path: Path, field: str = "text") -> Iterator[str]:
    """Texts of a file, by the end of its name, before ``.gz`` where there is one; blank lines are passed over.

    Args:
        path: ``.jsonl`` or ``.json`` (one object a line), ``.csv`` or ``.tsv`` (with a header), ``.parquet`` (needs the
            extra "parquet"); any other file holds a text a line.
        field: the key or column that holds the text.

    Raises:
        InputError: names file and line where something else stands.
        MissingExtraError: Parquet is read by pyarrow.
    """
    kind = (path.with_suffix("") if path.suffix == ".gz" else path).suffix.lower()
    if kind == ".parquet":
        yield from _parquet(path, field)
    elif kind in DELIMITERS:
        yield from _table(path, field, DELIMITERS[kind])
    else:
        json_lines = kind in {".jsonl", ".json"}
        for number, line in _lines(path):
            if line.strip():
                yield _parse(line, field, f"{path}, line {number}") if json_lines else line.rstrip("\n")


def _lines(path: Path, newline: str | None = None) -> Iterator[tuple[int, str]]:
    return numbered_lines(path, newline=newline, max_characters=MAX_CHARACTERS)


def _parse(line: str, field: str, place: str) -> str:
    try:
        values = parse_json(line)
        text = values[field]
    except KeyError as err:
        raise InputError(
            f'{place}: no field "{field}", only {column_names(values)}; name the one with the text'
        ) from err
    except (ValueError, TypeError) as err:
        raise InputError(f'{place}: not a JSON object with "{field}" ({err})') from err
    if not isinstance(text, str):
        raise InputError(f'{place}: "{field}" is {type(text).__name__}, not a string')
    return text


def _table(path: Path, field: str, delimiter: str) -> Iterator[str]:
    """One column of a table whose first line names the columns."""
    rows = csv.reader((line for _, line in _lines(path, newline="")), delimiter=delimiter, strict=True)
    try:
        header = next(rows, None)
        if header is None:
            return
        if field not in header:
            raise InputError(
                f'{path}, line 1: no column "{field}", only {column_names(header)}; name the one with the text'
            )
        column = header.index(field)
        for row in rows:
            if not row:
                continue
            if len(row) != len(header):
                raise InputError(f"{path}, line {rows.line_num}: {len(row)} columns, the header has {len(header)}")
            yield row[column]
    except csv.Error as err:
        raise InputError(f"{path}, line {rows.line_num}: {err}; long texts fit into .jsonl better") from err


def _parquet(path: Path, field: str) -> Iterator[str]:
    try:
        import pyarrow as pa
        from pyarrow.parquet import ParquetFile
    except ImportError as err:
        raise MissingExtraError(f'reading {path} needs pyarrow: pip install "nimbed[parquet]"') from err
    if path.suffix == ".gz":
        raise InputError(f"{path}: Parquet files are compressed inside; unpack this one")
    try:
        with ParquetFile(path) as file:
            if field not in (names := file.schema_arrow.names):
                raise InputError(f'{path}: no column "{field}", only {column_names(names)}; name the one with the text')
            batches = file.iter_batches(batch_size=1024, columns=[field])
            texts = (text for batch in batches for text in batch.column(0).to_pylist())
            for row, text in enumerate(texts, 1):
                if not isinstance(text, str):
                    raise InputError(f'{path}, row {row}: "{field}" is {type(text).__name__}, not a string')
                yield text
    except (OSError, pa.ArrowException) as err:
        raise InputError(f"{path} cannot be read as Parquet: {err}") from err


def column_names(names: object) -> str:
    """Column names for a message, in ASCII and cut where they are many."""
    text = ", ".join(map(ascii, names)) if isinstance(names, (list, tuple, dict)) else ascii(names)
    return text if len(text) <= 120 else f"{text[:117]}..."
