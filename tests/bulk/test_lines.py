"""Lines from any position."""

from __future__ import annotations

import gzip

import pytest

from nimbed.bulk import lines
from nimbed.bulk.lines import read_lines
from nimbed.bulk.rows import Position
from nimbed.errors import InputError

CONTENT = "\ufeffone\r\n\nthree é\nfour".encode()


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


@pytest.mark.parametrize(
    ("content", "kind"), [(b"a\xffb\n", "not UTF-8"), (b"a\0b\n", "NUL"), (b"x" * 90 + b"\n", "too long")]
)
def test_what_is_no_text_is_said_and_the_next_line_is_read(content, kind, tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "_MAX_BYTES", 40)
    monkeypatch.setattr(lines, "MAX_CHARACTERS", 10)
    (tmp_path / "a.txt").write_bytes(content + b"good\n")
    bad, good = read_lines(str(tmp_path / "a.txt"), Position())
    assert bad.fault
    assert bad.fault[0] == kind
    assert bad.end == (len(content), 1)
    assert (good.text, good.fault, good.number) == ("good\n", None, 2)


@pytest.mark.parametrize("name", ["none.txt", "cut.txt.gz", "no.txt.zst"])
def test_a_file_that_cannot_be_read_is_named(name, tmp_path):
    if name == "cut.txt.gz":
        (tmp_path / name).write_bytes(gzip.compress(CONTENT * 99)[:-9])
    elif name != "none.txt":
        pytest.importorskip("pyarrow")
        (tmp_path / name).write_bytes(b"no zstd")
    with pytest.raises(InputError, match=f"{name} cannot be read"):
        list(read_lines(str(tmp_path / name), Position()))
