"""Parquet parts."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from nimbed.bulk.layout import Block, Layout
from nimbed.bulk.parquet_format import ParquetFormat
from nimbed.errors import InputError, MissingExtraError

FORM = ParquetFormat()


def write(path, layout, values, ids):
    part = FORM.open_part(path, layout)
    part.write(Block(ids, [f"text {n}" for n in ids], values))
    part.close()


@pytest.mark.parametrize("own_ids", [True, False])
def test_columns_and_facts(own_ids, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    layout = Layout(width=4, own_ids=own_ids, with_text=True, facts={"nimbed_fingerprint": "f"})
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    write(tmp_path / "a.parquet", layout, values, ["a", "b", "c"] if own_ids else [5, 6, 7])
    table = parquet.read_table(tmp_path / "a.parquet")
    assert str(table.schema.field("vector").type).startswith("fixed_size_list<element: float not null>[4]")
    assert table.column("id").to_pylist() == (["a", "b", "c"] if own_ids else [5, 6, 7])
    assert table.column("text").to_pylist()[0] == ("text a" if own_ids else "text 5")
    assert table.column("vector").to_pylist() == values.tolist()
    assert json.loads(table.schema.metadata[b"nimbed"]) == {"nimbed_fingerprint": "f"}


def test_narrow_numbers_take_about_a_byte_each(tmp_path):
    pytest.importorskip("pyarrow")
    values = np.random.default_rng(0).integers(-128, 128, (4096, 64)).astype(np.int8)
    write(tmp_path / "a.parquet", Layout(width=64, dtype="int8"), values, list(range(4096)))
    assert (tmp_path / "a.parquet").stat().st_size < 1.2 * values.nbytes


def test_a_damaged_part_is_named(tmp_path):
    pytest.importorskip("pyarrow")
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"a\.parquet cannot be read"):
        FORM.read_part(tmp_path / "a.parquet", Layout(width=4))


def test_the_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r'pip install "nimbed\[parquet\]"'):
        FORM.check(Layout(width=4))
