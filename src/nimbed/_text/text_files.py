"""Files of texts: their kinds, told apart by their names, and the texts of one."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from nimbed._files.lines import STANDARD_INPUT, Position
from nimbed._text.parquet_rows import read_parquet
from nimbed._text.readers import read_jsonl, read_table, read_text
from nimbed._text.rows import BadRow, Columns

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nimbed._text.readers import Reader

KINDS: dict[str, Reader] = {
    "jsonl": read_jsonl,
    "csv": partial(read_table, delimiter=","),
    "tsv": partial(read_table, delimiter="\t"),
    "text": read_text,
    "parquet": read_parquet,
}
_SUFFIXES = {".jsonl": "jsonl", ".json": "jsonl", ".csv": "csv", ".tsv": "tsv", ".parquet": "parquet"}
_PACKED = (".gz", ".zst")


def kind_of(path: str) -> str:
    """By the end of its name, before ``.gz`` or ``.zst``; standard input holds JSON lines, unless it is said."""
    if path == STANDARD_INPUT:
        return "jsonl"
    name = Path(path)
    suffix = (name.with_suffix("") if name.suffix in _PACKED else name).suffix.lower()
    return _SUFFIXES.get(suffix, "text")


def texts_of(path: Path, field: str = "text") -> Iterator[str]:
    """Texts of a file, by the end of its name; blank lines are passed over.

    Args:
        path: ``.jsonl`` or ``.json`` (one object a line), ``.csv`` or ``.tsv`` (with a header), ``.parquet`` (needs the
            extra "parquet"); any other file holds a text a line. All but Parquet also ``.gz`` or ``.zst``.
        field: the key or column that holds the text.

    Raises:
        InputError: names file and line where something else stands.
        MissingExtraError: Parquet and zstd are read by pyarrow.
    """
    name = str(path.absolute())  # a file called "-" is no standard input
    for row in KINDS[kind_of(name)](name, Position(), Columns(text=(field,))):
        if isinstance(row, BadRow):
            raise row.error()
        yield row.text
