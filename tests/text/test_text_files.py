"""Files of texts in every format: read as they are, or refused by a message that names file and line."""

from __future__ import annotations

import csv
import gzip
import io
import json
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimbed._text import readers
from nimbed._text.text_files import kind_of, texts_of
from nimbed.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("name", "kind"),
    [("-", "jsonl"), ("a.jsonl.gz", "jsonl"), ("a.TSV", "tsv"), ("a.csv.zst", "csv"), ("a", "text")],
)
def test_the_name_says_the_kind(name, kind):
    assert kind_of(name) == kind


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_jsonl(tmp_path, suffix):
    texts = ["plain", "naïve\u2028línea", "", "日本"]
    lines = [json.dumps({"id": n, "text": text}, ensure_ascii=n % 2 == 0) for n, text in enumerate(texts)]
    path = written(tmp_path / f"texts.jsonl{suffix}", "\n".join([lines[0], "", "   ", *lines[1:]]))
    assert list(texts_of(path)) == texts
    assert list(texts_of(written(path, '{"body": "other"}\n'), "body")) == ["other"]


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_plain_lines(tmp_path, suffix, end):
    path = written(tmp_path / f"texts.txt{suffix}", end.join(["first", "", " second ", '{"text": 3}']))
    assert list(texts_of(path)) == ["first", " second ", '{"text": 3}']


@pytest.mark.parametrize("name", ["texts.jsonl", "texts.txt", "texts.txt.gz"])
def test_a_byte_order_mark_is_no_text(tmp_path, name):
    path = written(tmp_path / name, '\ufeff{"text": "a"}\n')
    assert list(texts_of(path)) == (["a"] if ".jsonl" in name else ['{"text": "a"}'])


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ('{"text": "cut', "text"),
        ('{"body": "a"}', "text"),
        ('["a"]', "text"),
        ('"a"', "text"),
        ("3", "text"),
        ('{"text": null}', "NoneType"),
        ('{"text": ["a"]}', "list"),
    ],
)
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_line_that_holds_no_text_is_named(tmp_path, line, named, suffix):
    path = written(tmp_path / f"texts.jsonl{suffix}", '{"text": "fine"}\n\n' + line + "\n")
    texts = texts_of(path)
    assert next(texts) == "fine"
    with pytest.raises(InputError, match=named) as caught:
        next(texts)
    assert f"{path}, line 3" in str(caught.value)


@pytest.mark.parametrize("name", ["texts.jsonl", "texts.txt", "texts.txt.gz"])
def test_a_line_that_is_not_utf8_is_named(tmp_path, name):
    path = tmp_path / name
    content = b'{"text": "fine"}\n{"text": "caf\xe9"}\n'
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    with pytest.raises(InputError, match="UTF-8") as caught:
        list(texts_of(path))
    assert f"{path}, line 2" in str(caught.value)


def test_files_that_cannot_be_read_are_named(tmp_path):
    whole = gzip.compress(b"some text\n" * 5000)
    broken = {
        "missing.txt": None,
        "no-gzip.txt.gz": b"plain text",
        "cut.txt.gz": whole[: len(whole) // 2],
        "damaged.txt.gz": whole[:30] + b"\xff" * 12 + whole[42:],
    }
    for name, content in broken.items():
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(InputError) as caught:
            list(texts_of(path))
        assert str(path) in str(caught.value)


def written(path: Path, text: str) -> Path:
    content = text.encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize(("name", "delimiter"), [("texts.csv", ","), ("texts.tsv", "\t")])
def test_tables(tmp_path, name, delimiter, suffix):
    texts = ["plain", 'with, comma and "quotes"', "two\nlines", "日本", "tab\tinside"]
    table = io.StringIO()
    csv.writer(table, delimiter=delimiter).writerows([["id", "body"], *([n, text] for n, text in enumerate(texts))])
    path = written(tmp_path / f"{name}{suffix}", "\ufeff" + table.getvalue())
    assert list(texts_of(path, "body")) == texts
    with pytest.raises(InputError, match=r"line 1: no column \"text\", only 'id', 'body'"):
        list(texts_of(path))


@given(texts=st.lists(st.text(st.characters(exclude_characters="\0\r", codec="utf-8"), max_size=30), max_size=8))
def test_any_text_survives_a_table(texts, tmp_path_factory):
    table = io.StringIO()
    csv.writer(table, quoting=csv.QUOTE_ALL).writerows([["text"], *([text] for text in texts)])
    assert list(texts_of(written(tmp_path_factory.mktemp("csv") / "a.csv", table.getvalue()))) == texts


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("1,a,b", "line 3: 3 columns, the header has 2"),
        ("1", "line 3: 1 columns, the header has 2"),
        ('1,"never closed', "line 3: unexpected end of data"),
        ("1," + "a" * 140_000, r"line 3: field larger.*\.jsonl"),
    ],
)
def test_a_row_that_is_no_row_is_named(tmp_path, row, says):
    path = written(tmp_path / "texts.csv", f"id,text\n0,fine\n{row}\n")
    texts = texts_of(path)
    assert next(texts) == "fine"
    with pytest.raises(InputError, match=says) as caught:
        next(texts)
    assert str(path) in str(caught.value)


def test_an_empty_table_holds_no_texts(tmp_path):
    assert list(texts_of(written(tmp_path / "a.csv", ""))) == []
    assert list(texts_of(written(tmp_path / "b.csv", "text\n"))) == []


def test_parquet(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    texts = [f"text {n} 日本" for n in range(3000)]
    path = tmp_path / "texts.parquet"
    parquet.write_table(pyarrow.table({"id": range(3000), "body": texts}), path)
    assert list(texts_of(path, "body")) == texts
    with pytest.raises(InputError, match=r"no column \"text\", only 'id', 'body'"):
        list(texts_of(path))
    with pytest.raises(InputError, match=r'row 1: "id" is int, not a string'):
        list(texts_of(path, "id"))
    parquet.write_table(pyarrow.table({"text": [*texts[:1500], None]}), path)
    with pytest.raises(InputError, match='row 1501: "text" is NoneType'):
        list(texts_of(path))


@pytest.mark.parametrize("name", ["texts.parquet", "texts.parquet.gz"])
def test_parquet_that_is_none(tmp_path, name):
    pytest.importorskip("pyarrow")
    path = written(tmp_path / name, "no table at all")
    with pytest.raises(InputError, match="Parquet") as caught:
        list(texts_of(path))
    assert str(path) in str(caught.value)


def test_parquet_without_pyarrow(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r'pip install "nimbed\[parquet\]"'):
        list(texts_of(tmp_path / "texts.parquet"))


@pytest.mark.parametrize("name", ["texts.jsonl", "texts.txt", "texts.csv", "texts.txt.gz"])
def test_one_huge_line_is_named(tmp_path, name, monkeypatch):
    monkeypatch.setattr(readers, "MAX_CHARACTERS", 1000)
    path = written(tmp_path / name, "text\n" + "a" * 5000) if "csv" in name else written(tmp_path / name, "a" * 5000)
    with pytest.raises(InputError, match=r"line [12]: more than 1000 characters in one line"):
        list(texts_of(path))


@pytest.mark.parametrize("name", ["texts.jsonl", "texts.txt", "texts.csv"])
def test_a_binary_file_is_named(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"text\n\x00\x01\x02PK")
    with pytest.raises(InputError) as caught:
        list(texts_of(path))
    assert f"{path}, line" in str(caught.value)
    path.write_bytes("text\nzwei\n".encode("utf-16"))
    with pytest.raises(InputError, match="line 1: not UTF-8"):
        list(texts_of(path))


def test_mixed_encodings_name_the_first_line_that_is_not_utf8(tmp_path):
    path = tmp_path / "texts.txt"
    path.write_bytes("ümlaut\n".encode() + "ümlaut\n".encode("latin-1") + "文".encode("gb18030"))
    texts = texts_of(path)
    assert next(texts) == "ümlaut"
    with pytest.raises(InputError, match="line 2: not UTF-8 at character 1"):
        next(texts)


def test_a_field_that_is_not_there_is_said_beside_those_that_are(tmp_path):
    path = written(tmp_path / "texts.jsonl", '{"id": 1, "body": "a"}\n')
    with pytest.raises(InputError, match=r"line 1: no field \"text\", only 'id', 'body'"):
        list(texts_of(path))


def test_a_json_array_is_no_list_of_texts(tmp_path):
    with pytest.raises(InputError, match="line 1: not a JSON object"):
        list(texts_of(written(tmp_path / "texts.json", '["a", "b"]')))


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        list(texts_of(tmp_path))
