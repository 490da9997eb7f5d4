"""Lines of evaluation files, each with its place; every error names file and line, the reason and the remedy."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from nimbed._files.json import parse_json
from nimbed._files.lines import read_lines
from nimbed._text.checks import excerpt
from nimbed.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


def find(folder: Path, *names: str) -> Path | None:
    """The first of the files that is there, plain or with ``.gz`` behind it."""
    candidates = (folder / f"{name}{end}" for name in names for end in ("", ".gz"))
    return next((path for path in candidates if path.is_file()), None)


def lines(path: Path) -> Iterator[tuple[str, str]]:
    """(place, line) of each line that is not blank; ``.gz`` is unpacked."""
    for line in read_lines(str(path)):
        place = f"{path}, line {line.number}"
        if line.fault is not None:
            raise InputError(f"{place}: {line.fault[1]}")
        if line.text.strip():
            yield place, line.text.rstrip("\r\n")


def objects(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, object) of each line of a JSON lines file."""
    for place, line in lines(path):
        try:
            record = parse_json(line)
        except ValueError as err:
            raise InputError(f"{place}: not JSON ({err}); write one object a line") from err
        if not isinstance(record, dict):
            raise InputError(f"{place}: a JSON {type(record).__name__} where an object is wanted: {excerpt(record)}")
        yield place, record


def rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """(place, values of ``columns``) of each line of a tab-separated file with a header; nothing is unquoted."""
    header: list[str] = []
    for place, line in lines(path):
        values = line.split("\t")
        if not header:
            header = values
            if missing := [name for name in columns if name not in header]:
                raise InputError(
                    f"{place}: the header has no column {' and no '.join(missing)}; "
                    f"it must name {', '.join(columns)}, separated by tabs"
                )
        elif len(values) != len(header):
            raise InputError(
                f"{place}: {len(values)} columns where the header has {len(header)}; separate them by tabs"
            )
        else:
            yield place, [values[header.index(name)] for name in columns]
    if not header:
        raise InputError(f"{path} is empty; its first line must name {', '.join(columns)}")


def text(record: dict[str, Any], field: str, place: str) -> str:
    """A field that must be a string with something in it."""
    value = record.get(field)
    if not isinstance(value, str) or not value.strip():
        found = "missing" if field not in record else f"{excerpt(value)}, not a text"
        raise InputError(f'{place}: "{field}" is {found}; give it a text or take the line out')
    return value


def number(value: str, name: str, place: str) -> float:
    """A finite number."""
    try:
        parsed = float(value)
    except ValueError as err:
        raise InputError(f"{place}: {name} {excerpt(value)} is not a number") from err
    if not math.isfinite(parsed):
        raise InputError(f"{place}: {name} {excerpt(value)} is not finite; give it a number")
    return parsed
