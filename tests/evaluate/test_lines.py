"""Lines of evaluation files come with their place, and every fault is named by it."""

from __future__ import annotations

import gzip
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nimbed.errors import InputError
from nimbed.evaluate import lines


@pytest.fixture
def write(tmp_path):
    def write(content: str | bytes, name: str = "file.tsv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def test_the_first_name_that_is_there_is_found_plain_before_compressed(tmp_path, write):
    assert lines.find(tmp_path, "a.tsv", "b.tsv") is None
    for name in ("b.tsv.gz", "b.tsv", "a.tsv.gz", "a.tsv"):
        path = write("", name)
        assert lines.find(tmp_path, "a.tsv", "b.tsv") == path


def test_a_folder_is_not_a_file_of_that_name(tmp_path, write):
    (tmp_path / "a.tsv").mkdir()
    compressed = write("", "a.tsv.gz")
    assert lines.find(tmp_path, "a.tsv") == compressed


def test_blank_lines_are_left_out_and_still_counted(write):
    path = write("one\n\n  \t\ntwo\n")
    assert list(lines.lines(path)) == [(f"{path}, line 1", "one"), (f"{path}, line 4", "two")]


def test_only_line_feeds_end_a_line(write):
    path = write("\N{BYTE ORDER MARK}a\u2028b\x85c\rd\r\nlast")
    assert [line for _, line in lines.lines(path)] == ["a\u2028b\x85c\rd", "last"]


def test_a_compressed_file_is_read_as_the_plain_one(write):
    content = "eins\nzwölf\n"
    plain, packed = write(content), write(gzip.compress(content.encode()), "file.tsv.gz")
    assert [line for _, line in lines.lines(packed)] == [line for _, line in lines.lines(plain)] == ["eins", "zwölf"]


def test_what_is_not_utf8_is_named_by_line_and_character(write):
    path = write(b"fine\ncaf" + b"\xe9\n")
    with pytest.raises(InputError, match=r"file\.tsv, line 2: not UTF-8 at character 4; convert the file"):
        list(lines.lines(path))


@pytest.mark.parametrize(
    "content",
    [b"no gzip", gzip.compress(b"x" * 999)[:20], gzip.compress(b"x" * 99)[:-8] + b"?" * 8],
    ids=["no gzip", "cut short", "another checksum"],
)
def test_a_broken_archive_is_named(content, write):
    with pytest.raises(InputError, match=r"file\.gz cannot be read"):
        list(lines.lines(write(content, "file.gz")))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nothing\.tsv cannot be read"):
        list(lines.lines(tmp_path / "nothing.tsv"))


def test_objects_are_those_of_json_lines(write):
    path = write('{"a": 1}\n\n{"b": [2]}\n')
    assert list(lines.objects(path)) == [(f"{path}, line 1", {"a": 1}), (f"{path}, line 3", {"b": [2]})]


@pytest.mark.parametrize(
    ("second", "says"),
    [("{", "line 2: not JSON"), ("[1]", "line 2: a JSON list where"), ("null", "line 2: a JSON NoneType where")],
)
def test_a_line_that_is_no_object_is_refused_when_it_is_reached(second, says, write):
    read = lines.objects(write("{}\n" + second))
    assert next(read)[1] == {}
    with pytest.raises(InputError, match=says):
        next(read)


def test_rows_give_the_columns_that_are_asked_for_in_that_order(write):
    path = write('b\tspare\ta\n1\tx\t"2"\n\n3\t\t\n')
    assert list(lines.rows(path, ("a", "b"))) == [(f"{path}, line 2", ['"2"', "1"]), (f"{path}, line 4", ["", "3"])]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", r"file\.tsv is empty; its first line must name a, b"),
        ("\n \n", "is empty"),
        ("a\tc\n", "line 1: the header has no column b; it must name a, b, separated by tabs"),
        ("c\n", "line 1: the header has no column a and no b;"),
        ("a\tb\n1\n", "line 2: 1 columns where the header has 2"),
        ("a\tb\n1\t2\t3\n", "line 2: 3 columns where the header has 2"),
    ],
)
def test_rows_that_do_not_fit_are_refused(content, says, write):
    with pytest.raises(InputError, match=says):
        list(lines.rows(write(content), ("a", "b")))


def test_a_field_must_be_a_text_with_something_in_it():
    assert lines.text({"query": " why "}, "query", "here") == " why "
    for record, says in (
        ({}, "missing"),
        ({"query": None}, "None"),
        ({"query": 3}, "3"),
        ({"query": "\t "}, "not a text"),
    ):
        with pytest.raises(InputError, match=f'here: "query" is .*{says}'):
            lines.text(record, "query", "here")


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_finite_number_is_read_back(value):
    assert lines.number(repr(value), "score", "here") == value


@pytest.mark.parametrize(
    ("word", "says"),
    [("", "is not a number"), ("1,5", "is not a number"), ("nan", "not finite"), ("1e999", "not finite")],
)
def test_what_is_no_finite_number_is_refused(word, says):
    with pytest.raises(InputError, match=f"here: score .*{says}"):
        lines.number(word, "score", "here")


@given(st.lists(st.dictionaries(st.text(max_size=3), st.text(max_size=5), max_size=2), max_size=5))
@settings(max_examples=25, deadline=None)
def test_json_lines_are_read_as_they_were_written(tmp_path_factory, records):
    path = tmp_path_factory.mktemp("lines") / "file.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    assert [record for _, record in lines.objects(path)] == records
