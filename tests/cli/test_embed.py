"""`nimbed embed`, run as a person runs it. (Its `.npy` from one file: tests/test_cli.py.)"""

from __future__ import annotations

import io
import json
import types

import numpy as np
import pytest
from tests.support.bulk_jobs import open_encoder, read_parquet, records, write_jsonl

from nimbed.cli import main


def embed(*arguments):
    return main(["embed", *map(str, arguments), "--model", "any", "--backend", "fake"])


def test_fields_ids_and_types(tmp_path, capsys):
    pytest.importorskip("pyarrow")
    write_jsonl(tmp_path / "a.jsonl", records(30))
    write_jsonl(tmp_path / "b.jsonl", records(30, 30))
    out = tmp_path / "out.parquet"
    fields = ["--id-field", "id", "--text-field", "title", "--text-field", "text", "--template", "{title}: {text}"]
    assert embed(tmp_path / "*.jsonl", "-o", out, *fields, "--dtype", "float16", "--part-rows", 25, "--with-text") == 0
    assert "60 x 384, 0 texts truncated" in capsys.readouterr().out
    ids, vectors = read_parquet(out)
    assert ids == [row["id"] for row in records(60)]
    with open_encoder(dim=None) as encoder:
        texts = [f"{row['title']}: {row['text']}" for row in records(60)]
        np.testing.assert_array_equal(np.float16(vectors), encoder.encode(texts, dtype="float16"))


def test_standard_input(tmp_path, capsys, monkeypatch):
    lines = "".join(json.dumps(row) + "\n" for row in records(30)).encode()
    for kind, count in (("jsonl", 30), ("text", 30)):
        monkeypatch.setattr("sys.stdin", types.SimpleNamespace(buffer=io.BytesIO(lines)))
        assert embed("-", "-o", tmp_path / "out.jsonl", "--input-kind", kind, "--part-rows", 7) == 0
        assert f"{count} x 384" in capsys.readouterr().out
        assert len((tmp_path / "out.jsonl").read_text().splitlines()) == count


def test_bad_rows(tmp_path, capsys):
    source = write_jsonl(tmp_path / "in.jsonl", [*records(3), {"text": 3}])
    assert embed(source, "-o", tmp_path / "out.npy") == 1
    assert "in.jsonl, line 4: " in capsys.readouterr().err
    assert embed(source, "-o", tmp_path / "out.npy", "--on-error", "skip") == 0
    assert "skipped 1 rows (1 not a string), listed in" in capsys.readouterr().out


def test_an_update_and_a_new_beginning(tmp_path, capsys):
    source, out = write_jsonl(tmp_path / "in.jsonl", records(30)), tmp_path / "out.npy"
    assert embed(source, "-o", out, "--update") == 0
    write_jsonl(source, records(31))
    assert embed(source, "-o", out, "--update") == 0
    assert "kept the vectors of 30 rows; there were 30 before" in capsys.readouterr().out
    assert embed(source, "-o", out, "--restart") == 0
    assert "computed 31 rows" in capsys.readouterr().out
    assert np.load(out).shape == (31, 384)


def test_remedies_are_the_commands_own(tmp_path, capsys):
    pytest.importorskip("pyarrow")
    source, out = write_jsonl(tmp_path / "in.jsonl", records(3)), tmp_path / "out.parquet"
    assert embed(source, "-o", out) == 0
    write_jsonl(source, records(4))
    assert embed(source, "-o", out) == 1
    said = capsys.readouterr().err
    assert "compute what is new in it with --update, or begin anew with --restart" in said
    assert embed(source, "-o", tmp_path / "out.txt") == 1
    assert "says no format" in capsys.readouterr().err


@pytest.mark.parametrize("flags", [["--update"], ["--threads", "2"], ["--on-error", "skip"], ["--part-rows", "9"]])
def test_flags_that_ray_has_no_place_for(flags, tmp_path, capsys):
    assert embed(tmp_path / "in.jsonl", "-o", tmp_path / "out.parquet", "--ray", *flags) == 1
    assert f"{flags[0]} does not go together with --ray" in capsys.readouterr().err


def test_ray_is_asked_for_where_it_is_missing(tmp_path, capsys, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "nimbed.ray", raising=False)
    assert embed(tmp_path / "in.jsonl", "-o", tmp_path / "out.parquet", "--ray") == 1
    assert 'pip install "nimbed[ray]"' in capsys.readouterr().err
