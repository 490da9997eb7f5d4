"""Rows of Parquet files."""

from __future__ import annotations

import pytest

from nimbed._files.lines import Position
from nimbed._text.parquet_rows import read_parquet, surely_rows
from nimbed._text.rows import BadRow, Columns
from nimbed.errors import InputError

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


def written(path, columns, **options):
    parquet.write_table(pa.table(columns), path, **options)
    return str(path)


def test_rows_are_read_on_from_any(tmp_path):
    texts = [f"text {n}" for n in range(2500)]
    path = written(tmp_path / "a.parquet", {"n": range(2500), "text": texts}, row_group_size=700)
    rows = list(read_parquet(path, Position(), Columns(id="n")))
    assert [row.text for row in rows] == texts
    assert [row.id for row in rows] == [str(n) for n in range(2500)]
    for at in (0, 699, 700, 1024, 2499, 2500):
        assert list(read_parquet(path, Position(at, at), Columns(id="n"))) == rows[at:]
    assert surely_rows(path, Columns(id="n")) == 2500


@pytest.mark.parametrize("column", [["a", None], [1, 2], [b"a", b"b"]])
def test_rows_that_may_be_bad_are_looked_at(column, tmp_path):
    path = written(tmp_path / "a.parquet", {"text": column})
    assert surely_rows(path, Columns()) is None
    rows = list(read_parquet(path, Position(), Columns()))
    assert any(isinstance(row, BadRow) and row.kind == "not a string" for row in rows)
    assert "a.parquet, row 2: " in str(rows[1].error())


def test_a_nested_field_of_the_same_name_is_another(tmp_path):
    path = written(tmp_path / "a.parquet", {"nested": [{"text": None}], "text": ["a"]})
    assert surely_rows(path, Columns()) == 1


def test_files_that_are_refused(tmp_path):
    path = written(tmp_path / "a.parquet", {"body": ["a"]})
    with pytest.raises(InputError, match='no column "text", only'):
        list(read_parquet(path, Position(), Columns()))
    (tmp_path / "b.parquet").write_bytes(b"PAR1 is not enough")
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        list(read_parquet(str(tmp_path / "b.parquet"), Position(), Columns()))
    with pytest.raises(InputError, match="unpack this one"):
        list(read_parquet(str(tmp_path / "b.parquet.gz"), Position(), Columns()))
