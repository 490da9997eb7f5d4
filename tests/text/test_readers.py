"""Rows of JSON lines, tables and plain lines."""

from __future__ import annotations

import csv

import pytest

from nimbed._files.lines import Position
from nimbed._text.readers import read_jsonl, read_text
from nimbed._text.rows import BadRow, Columns, Row
from nimbed._text.text_files import KINDS
from nimbed.errors import InputError

TEXTS = ["one", "two\nlines", 'with "quotes", and commas', "é"]


def table(path, delimiter):
    with path.open("w", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerows([("id", "text"), *enumerate(TEXTS)])
    return str(path)


@pytest.mark.parametrize(("kind", "delimiter"), [("csv", ","), ("tsv", "\t")])
def test_a_table_is_read_on_from_behind_any_row(kind, delimiter, tmp_path):
    path, columns, read = table(tmp_path / "a", delimiter), Columns(id="id"), KINDS[kind]
    rows = list(read(path, Position(), columns))
    assert [(row.text, row.id) for row in rows] == [(text, str(n)) for n, text in enumerate(TEXTS)]
    assert [row.line for row in rows] == [2, 4, 5, 6]
    for index, row in enumerate(rows):
        assert list(read(path, row.end, columns)) == rows[index + 1 :]


def test_rows_of_a_table_that_are_bad(tmp_path):
    (tmp_path / "a").write_bytes(b"id,text\n1,a\n2\n3,b\xff\n4,c\n")
    rows = list(KINDS["csv"](str(tmp_path / "a"), Position(), Columns()))
    assert [row.kind if isinstance(row, BadRow) else row.text for row in rows] == [
        "a", "another number of columns", "not UTF-8", "c",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"id,body\n", 'line 1: no column "text"'), (b'text\n"a\n', "line 2: unexpected end"), (b"t\xff\n", "not UTF-8")],
)
def test_tables_that_are_refused(content, says, tmp_path):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(InputError, match=says):
        list(KINDS["csv"](str(tmp_path / "a"), Position(), Columns()))


def test_an_empty_table(tmp_path):
    (tmp_path / "a").write_text("")
    assert list(KINDS["csv"](str(tmp_path / "a"), Position(), Columns())) == []


def test_json_lines(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b'{"text": "a"}\n\n[]\n{"text": 3}\nno\n{"text": "\xff"}\n{"text": "\\ud800"}\n{"text": "b"}')
    rows = list(read_jsonl(str(path), Position(), Columns()))
    said = [row.kind if isinstance(row, BadRow) else row.text for row in rows]
    assert said == ["a", "not an object", "not a string", "not JSON", "not UTF-8", "not JSON", "b"]
    assert [row.line for row in rows] == [1, 3, 4, 5, 6, 7, 8]
    assert "line 3: not a JSON object" in str(rows[1].error())
    assert list(read_jsonl(str(path), rows[2].end, Columns())) == rows[3:]


def test_plain_lines(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b" a \r\n \nb")
    rows = list(read_text(str(path), Position(), Columns()))
    assert rows == [
        Row(" a ", None, str(path), 1, Position(5, 1)),
        Row("b", None, str(path), 3, Position(8, 3)),
    ]
    with pytest.raises(InputError, match="no field 'n' for ids"):
        list(read_text(str(path), Position(), Columns(id="n")))
