"""Lines from any position of plain and packed files, each checked."""

from __future__ import annotations

import gzip
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimbed._files.lines import Position, read_lines
from nimbed.errors import InputError

CONTENT = "\ufeffone\r\n\nthree é\nfour".encode()
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


def packed(folder, name):
    path = folder / name
    if name.endswith(".gz"):
        path.write_bytes(gzip.compress(CONTENT))
    elif name.endswith(".zst"):
        pa = pytest.importorskip("pyarrow")
        with pa.CompressedOutputStream(str(path), "zstd") as file:
            file.write(CONTENT)
    else:
        path.write_bytes(CONTENT)
    return str(path)


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a.txt.zst"])
def test_lines_are_read_on_from_behind_any_of_them(name, tmp_path):
    path = packed(tmp_path, name)
    found = list(read_lines(path, Position()))
    assert [line.text for line in found] == ["one\r\n", "\n", "three é\n", "four"]
    assert [line.number for line in found] == [1, 2, 3, 4]
    assert found[-1].end == (len(CONTENT), 4)
    for index, line in enumerate(found):
        assert list(read_lines(path, line.end)) == found[index + 1 :]


@given(text=ANY_TEXT)
def test_every_character_comes_back(text, tmp_path_factory):
    path = tmp_path_factory.mktemp("lines") / "a"
    path.write_bytes(text.encode())
    expected = io.TextIOWrapper(io.BytesIO(text.encode()), "utf-8-sig", newline="\n")
    assert [line.text for line in read_lines(str(path))] == list(expected)


@pytest.mark.parametrize(
    ("content", "kind"), [(b"a\xffb\n", "not UTF-8"), (b"a\0b\n", "NUL"), (b"x" * 90 + b"\n", "too long")]
)
def test_what_is_no_text_is_said_and_the_next_line_is_read(content, kind, tmp_path):
    (tmp_path / "a.txt").write_bytes(content + b"good\n")
    bad, good = read_lines(str(tmp_path / "a.txt"), max_characters=10)
    assert bad.fault
    assert bad.fault[0] == kind
    assert bad.end == (len(content), 1)
    assert (good.text, good.fault, good.number) == ("good\n", None, 2)


def test_a_line_may_have_any_length_unless_it_is_bounded(tmp_path):
    (tmp_path / "a").write_text("éé34\n" * 2)
    assert [line.fault for line in read_lines(str(tmp_path / "a"))] == [None, None]
    assert [line.fault for line in read_lines(str(tmp_path / "a"), max_characters=5)] == [None, None]
    bad, _ = read_lines(str(tmp_path / "a"), max_characters=4)
    assert bad.fault == ("too long", "more than 4 characters in one line; put one text in each line")


def test_the_character_that_is_not_utf8_is_named(tmp_path):
    (tmp_path / "a").write_bytes("ümlaut ".encode() + b"\xfc\n")
    assert next(read_lines(str(tmp_path / "a"))).fault == ("not UTF-8", "not UTF-8 at character 8; convert the file")


@pytest.mark.parametrize("name", ["none.txt", "cut.txt.gz", "no.txt.zst"])
def test_a_file_that_cannot_be_read_is_named(name, tmp_path):
    if name == "cut.txt.gz":
        (tmp_path / name).write_bytes(gzip.compress(CONTENT * 99)[:-9])
    elif name != "none.txt":
        pytest.importorskip("pyarrow")
        (tmp_path / name).write_bytes(b"no zstd")
    with pytest.raises(InputError, match=f"{name} cannot be read"):
        list(read_lines(str(tmp_path / name), Position()))
