"""Jobs of nimbed.bulk for tests: small inputs, and what an output holds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from nimbed import Encoder

if TYPE_CHECKING:
    from pathlib import Path


def open_encoder(**options: Any) -> Encoder:
    return Encoder("any", backend="fake", cache=None, **{"dim": 8, **options})


def records(count: int, first: int = 0) -> list[dict[str, str]]:
    return [{"id": f"r{n}", "title": f"title {n}", "text": f"passage {n}"} for n in range(first, first + count)]


def write_jsonl(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def content(out: Path) -> dict[str, bytes]:
    """The bytes of an output: of a folder's parts by name."""
    if out.is_file():
        return {out.name: out.read_bytes()}
    return {path.name: path.read_bytes() for path in sorted(out.glob("part-*"))}


def read_parquet(out: Path) -> tuple[list[Any], np.ndarray]:
    """Ids and vectors of a folder, as any reader of data sets reads it."""
    from pyarrow import parquet

    table = parquet.read_table(out)
    return table.column("id").to_pylist(), np.array(table.column("vector").to_pylist())
