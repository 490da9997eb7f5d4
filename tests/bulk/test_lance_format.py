"""Lance data sets."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from tests.support.bulk_jobs import open_encoder, records, write_jsonl

from nimbed.bulk import Columns, embed_files
from nimbed.bulk.lance_format import LanceFormat, put_in_place
from nimbed.bulk.layout import Layout
from nimbed.errors import InputError, MissingExtraError


def test_the_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "lance", None)
    with pytest.raises(MissingExtraError, match=r'pip install "nimbed\[lance\]"'):
        LanceFormat().check(Layout(width=4))


def test_a_folder_takes_the_place_of_another(tmp_path):
    for name in ("fresh", "out", ".out.old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_text("")
    put_in_place(tmp_path / "fresh", tmp_path / "out")
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "fresh"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_data_set_is_written_and_updated(tmp_path):
    lance = pytest.importorskip("lance")
    source, out = write_jsonl(tmp_path / "in.jsonl", records(50)), tmp_path / "out.lance"
    with open_encoder() as encoder:
        options = {"columns": Columns(id="id"), "with_text": True, "part_rows": 20, "begin": "update"}
        assert embed_files(encoder, source, out, **options).rows == 50
        write_jsonl(source, records(45, 10))
        assert embed_files(encoder, source, out, **options).computed == 5
        table = lance.dataset(str(out)).to_table()
        assert table.column("id").to_pylist() == [row["id"] for row in records(45, 10)]
        texts = table.column("text").to_pylist()
        np.testing.assert_array_equal(np.float32(table.column("vector").to_pylist()), encoder.encode(texts))
    (tmp_path / "no.lance").mkdir()
    with pytest.raises(InputError, match="cannot be read"):
        LanceFormat().read_output(tmp_path / "no.lance", Layout(width=8))
