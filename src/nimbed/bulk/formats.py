"""The formats of an output, by what it holds and by the end of its name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nimbed.bulk.jsonl_format import JsonlFormat
from nimbed.bulk.lance_format import LanceFormat
from nimbed.bulk.npy_format import NpyFormat
from nimbed.bulk.parquet_format import ParquetFormat
from nimbed.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from nimbed.bulk.layout import Format

DENSE = "dense"
# What is computed -> suffix -> format. Sparse rows and token vectors will be other first keys, with formats of theirs.
FORMATS: dict[str, dict[str, Format]] = {
    DENSE: {".npy": NpyFormat(), ".jsonl": JsonlFormat(), ".parquet": ParquetFormat(), ".lance": LanceFormat()},
}


def format_of(out: Path, computes: str = DENSE) -> Format:
    """The format that an output's name asks for.

    Raises:
        InputError: it asks for none.
    """
    known = FORMATS[computes]
    if out.suffix not in known:
        raise InputError(f"{out} says no format: its name ends in none of {', '.join(known)}")
    return known[out.suffix]
