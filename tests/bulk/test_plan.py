"""Which rows make which part."""

from __future__ import annotations

from itertools import chain

import pytest
from tests.support.bulk_jobs import records, write_jsonl

from nimbed._text.rows import Columns
from nimbed.bulk.plan import make_plan
from nimbed.errors import InputError


@pytest.fixture
def paths(tmp_path):
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    write_jsonl(tmp_path / "a.jsonl", records(7))
    (tmp_path / "none.jsonl").write_text("\n")
    parquet.write_table(pa.Table.from_pylist(records(8, 7)), tmp_path / "b.parquet", row_group_size=3)
    write_jsonl(tmp_path / "c.jsonl", records(5, 15))
    return [str(tmp_path / name) for name in ("a.jsonl", "none.jsonl", "b.parquet", "c.jsonl")]


@pytest.mark.parametrize("part_rows", [1, 3, 4, 7, 20, 100])
def test_parts_go_on_from_file_to_file_and_each_is_read_by_itself(part_rows, paths):
    plan = make_plan(paths, None, Columns(), part_rows, strict=True)
    assert plan.rows == 20
    assert [part.first for part in plan.parts] == list(range(0, 20, part_rows))
    assert {part.rows for part in plan.parts[:-1]} <= {part_rows}
    parts = {part: [row.text for row in plan.rows_of(part, Columns())] for part in reversed(plan.parts)}
    assert list(chain(*reversed(parts.values()))) == [row["text"] for row in records(20)]


def test_a_bad_row_is_found_before_all(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", [*records(3), {"text": None}])
    with pytest.raises(InputError, match=r'a\.jsonl, line 4: "text" is NoneType'):
        make_plan([str(path)], None, Columns(), 2, strict=True)
    assert make_plan([str(path)], None, Columns(), 2, strict=False).rows == 4


def test_fewer_rows_than_there_were(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", records(5))
    plan = make_plan([str(path)], None, Columns(), 3, strict=True)
    write_jsonl(path, records(4))
    assert len(list(plan.rows_of(plan.parts[0], Columns()))) == 3
    with pytest.raises(InputError, match=r"a\.jsonl had 5 texts at first, then 4: it was changed"):
        list(plan.rows_of(plan.parts[1], Columns()))


def test_no_rows(tmp_path):
    plan = make_plan([str(write_jsonl(tmp_path / "a.jsonl", []))], None, Columns(), 3, strict=True)
    assert plan.parts == ()
    assert plan.rows == 0


def test_standard_input_comes_in_parts(monkeypatch):
    import io
    import types

    monkeypatch.setattr("sys.stdin", types.SimpleNamespace(buffer=io.BytesIO(b"a\nb\nc\nd\n")))
    plan = make_plan(["-"], "text", Columns(), 2, strict=True)
    assert plan.rows is None
    parts = [(part.first, [row.text for row in rows]) for part, rows in plan.stream(Columns(), 2)]
    assert parts == [(0, ["a", "b"]), (2, ["c", "d"])]
