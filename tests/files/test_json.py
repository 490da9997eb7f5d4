"""The reader of JSON that others wrote: what it takes, and how it refuses the rest."""

from __future__ import annotations

import json
import os

import pytest

from nimbed._files.json import Fields, bytes_of, forget, parse_json, read_json, reading_once, shown
from nimbed.errors import ArtefactError, NimbedError, SpecError


def test_values_are_what_json_says():
    text = '{"a": [1, 2.5, null, true], "b": {"c": "\\ud83d\\ude00 \\u00e4"}}'
    assert parse_json(text) == parse_json(text.encode()) == json.loads(text)


@pytest.mark.parametrize(
    "text",
    [
        b"", b"{", b"\xff{}", b"\xef\xbb\xbf{}", '{"a": "\\ud800"}', '{"\\udfff": 1}',
        "[" * 65 + "]" * 65, "[" * 200_000, '{"a":' * 5_000 + "1" + "}" * 5_000,
    ],
)  # fmt: skip
def test_what_is_no_json_is_one_kind_of_error(text):
    with pytest.raises(ValueError):  # noqa: PT011
        parse_json(text)


def test_64_levels_and_many_brackets_are_read():
    assert parse_json("[" * 64 + "]" * 64)
    assert len(parse_json(json.dumps([[n] for n in range(1000)]))) == 1000


@pytest.mark.parametrize(
    ("content", "says"),
    [("[1]", "holds a list, not an object"), ("7", "holds 7"), ("null", "holds null"), ("{", "cannot be read as JSON")],
)
def test_a_file_of_another_kind(tmp_path, content, says):
    path = tmp_path / "config.json"
    path.write_text(content)
    with pytest.raises(ArtefactError, match=f"config.json.*{says}.*copy it again"):
        read_json(path, error=ArtefactError, remedy="copy it again")


def test_what_is_no_file(tmp_path):
    (tmp_path / "folder.json").mkdir()
    os.mkfifo(tmp_path / "pipe.json")
    for name in ("none.json", "folder.json", "pipe.json", "n" * 300, "a\0b"):
        with pytest.raises(SpecError):
            read_json(tmp_path / name)
    assert read_json(tmp_path / "none.json", missing={}) == {}
    for name in ("folder.json", "pipe.json", "n" * 300):
        with pytest.raises(SpecError):
            read_json(tmp_path / name, missing={})


FIELDS = Fields(
    {"n": 3, "f": 0.5, "t": "x", "b": True, "l": [1], "o": {"p": None}, "null": None, "big": 10**400, "inf": 1e999},
    "f.json",
)


def test_fields_of_the_right_type():
    assert (FIELDS.whole("n"), FIELDS.whole("missing", "n", minimum=3, maximum=3), FIELDS.whole("null", default=7)) == (
        3,
        3,
        7,
    )
    assert (FIELDS.number("n"), FIELDS.number("f"), FIELDS.number("null", default=None)) == (3.0, 0.5, None)
    assert (FIELDS.text("t"), FIELDS.flag("b"), FIELDS.flag("missing", default=False)) == ("x", True, False)
    assert (FIELDS.fields("o"), FIELDS.fields("null", default=None)) == ({"p": None}, None)


@pytest.mark.parametrize(
    ("method", "keys"),
    [
        ("whole", ["f", "t", "b", "l", "o", "null", "missing", "big", "inf"]),
        ("number", ["t", "b", "l", "o", "null", "missing", "big", "inf"]),
        ("text", ["n", "b", "l", "o", "null", "missing"]),
        ("flag", ["n", "f", "t", "l", "o", "null", "missing"]),
        ("fields", ["n", "t", "b", "l", "null", "missing"]),
    ],
)
def test_fields_of_another_type_are_refused_by_file_and_key(method, keys):
    for key in keys:
        with pytest.raises(SpecError, match=rf"f\.json: {key}"):
            getattr(FIELDS, method)(key)
    with pytest.raises(NimbedError, match=r"f\.json: o: p is missing; it is a string"):
        FIELDS.fields("o").text("p")


@pytest.mark.parametrize(("least", "most"), [(4, 9), (0, 2)])
def test_whole_numbers_have_bounds(least, most):
    with pytest.raises(SpecError, match=f"3 is not a whole number from {least} to {most}"):
        FIELDS.whole("n", minimum=least, maximum=most)


def test_what_a_message_shows_is_bounded():
    for value in ("x" * 10_000, ["y"] * 10_000, 10**100_000, {"k" * 5_000: 1}):
        assert len(shown(value)) < 150


def test_within_reading_once_a_file_is_read_once_and_afterwards_anew(tmp_path):
    path = tmp_path / "config.json"
    path.write_text('{"a": 1}')
    with reading_once():
        assert read_json(path) == {"a": 1}
        path.write_text('{"a": 22}')
        with reading_once():
            assert read_json(path) == {"a": 1}
        assert bytes_of(path) == b'{"a": 1}'
    assert read_json(path) == {"a": 22}
    assert bytes_of(path) == b'{"a": 22}'


def test_within_reading_once_a_file_that_comes_later_is_found(tmp_path):
    path = tmp_path / "config.json"
    with reading_once():
        with pytest.raises(SpecError, match="is missing"):
            read_json(path)
        path.write_text("{}")
        assert read_json(path) == {}


def test_what_was_written_anew_is_read_anew(tmp_path):
    file = tmp_path / "a.json"
    file.write_text('{"a": 1}')
    forget(file)  # nothing is kept yet
    with reading_once():
        assert read_json(file)["a"] == 1
        file.write_text('{"a": 2}')
        assert read_json(file)["a"] == 1
        forget(file)
        assert read_json(file)["a"] == 2
