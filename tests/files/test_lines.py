"""Lines with their numbers, from plain and packed files, each checked."""

from __future__ import annotations

import gzip
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimbed._files.lines import numbered_lines
from nimbed.errors import InputError

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
def test_numbers_begin_at_one_and_line_ends_stay(name, tmp_path):
    content = "\ufefferste\r\n\nletzte".encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    assert list(numbered_lines(tmp_path / name)) == [(1, "erste\n"), (2, "\n"), (3, "letzte")]
    assert next(numbered_lines(tmp_path / name, newline="\n")) == (1, "erste\r\n")


@given(text=ANY_TEXT, newline=st.sampled_from([None, "", "\n"]))
def test_every_character_comes_back(text, newline, tmp_path_factory):
    path = tmp_path_factory.mktemp("lines") / "a"
    path.write_bytes(text.encode())
    expected = list(io.TextIOWrapper(io.BytesIO(text.encode()), "utf-8-sig", newline=newline))
    assert [line for _, line in numbered_lines(path, newline=newline)] == expected


def test_lines_before_a_bad_one_are_given(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"good\nbad \xff\n")
    lines = numbered_lines(path)
    assert next(lines) == (1, "good\n")
    with pytest.raises(InputError, match=r"a, line 2: not UTF-8 at character 5; convert the file"):
        next(lines)


def test_a_line_may_be_bounded(tmp_path):
    path = tmp_path / "a"
    path.write_text("1234\n12345\n")
    assert [number for number, _ in numbered_lines(path)] == [1, 2]
    assert [number for number, _ in numbered_lines(path, max_characters=6)] == [1, 2]
    with pytest.raises(InputError, match="line 2: more than 5 characters in one line"):
        list(numbered_lines(path, max_characters=5))


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a", b"text\n\0PK", "line 2: holds a NUL character at 1"),
        ("a.gz", gzip.compress(b"text\n" * 99, mtime=0)[:-12], "a.gz cannot be read"),
        ("a.gz", b"no gzip", "a.gz cannot be read"),
        ("b", None, "b cannot be read"),
    ],
)
def test_what_cannot_be_read_is_named(name, content, says, tmp_path):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=says):
        list(numbered_lines(tmp_path / name))
