"""Archives of stored entries: where each lies, and every way in which one can lie."""

from __future__ import annotations

import io
import struct
import zipfile

import pytest

from nimbed._model_folder.stored_zip import check_crc, read_entries

FILES = {"m/a": b"one", "m/b": b"", "m/c": b"three" * 10}


def zipped(files=FILES, **how) -> bytearray:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", **how) as file:
        for name, content in files.items():
            file.writestr(name, content)
    return bytearray(held.getvalue())


def refused(content: bytes, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        read_entries(memoryview(content))


def test_entries_are_found():
    content = memoryview(zipped())
    entries = read_entries(content)
    assert {name: bytes(content[entry.begin : entry.end]) for name, entry in entries.items()} == FILES
    for name, entry in entries.items():
        check_crc(content, name, entry)


def test_a_comment_behind_it_and_sizes_of_64_bits(monkeypatch):
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as file:
        file.comment = b"a comment"
        with file.open("m/a", "w", force_zip64=True) as entry:
            entry.write(b"one")
    assert list(read_entries(memoryview(held.getvalue()))) == ["m/a"]
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 20)
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 2)
    content = memoryview(zipped(allowZip64=True))
    assert b"PK\6\6" in bytes(content)
    assert [bytes(content[e.begin : e.end]) for e in read_entries(content).values()] == list(FILES.values())


def test_a_file_that_is_written_as_it_comes():
    class Stream(io.RawIOBase):
        def __init__(self):
            self.held = b""

        def writable(self):
            return True

        def write(self, content):
            self.held += bytes(content)
            return len(content)

    stream = Stream()
    with zipfile.ZipFile(stream, "w") as file:
        file.writestr("m/a", b"one")
    content = memoryview(stream.held)
    (entry,) = read_entries(content).values()
    assert bytes(content[entry.begin : entry.end]) == b"one"


def test_what_is_packed_is_not_unpacked():
    """Nothing can grow."""
    refused(zipped({"m/a": bytes(1 << 20)}, compression=zipfile.ZIP_DEFLATED), "compressed or encrypted")


def test_a_name_twice():
    content = zipped({"m/a": b"one", "m/b": b"two"})
    refused(bytes(content).replace(b"m/b", b"m/a"), "m/a is there twice")


def test_two_headers_that_differ():
    content = bytes(zipped({"m/a": b"one"}))
    refused(content.replace(b"m/a", b"m/x", 1), "another one than its directory says")
    at = content.index(b"PK\1\2")
    refused(content[: at + 20] + struct.pack("<2I", 2, 2) + content[at + 28 :], "another one")


@pytest.mark.parametrize("offset", [1, 2**31, 2**32 - 2])
def test_an_entry_that_is_not_where_it_says(offset):
    content = zipped({"m/a": b"one"})
    content[content.index(b"PK\1\2") + 42 :][:4] = b""
    at = zipped({"m/a": b"one"}).index(b"PK\1\2") + 42
    content = zipped({"m/a": b"one"})
    content[at : at + 4] = struct.pack("<I", offset)
    refused(content, r"begins no entry|cut")


def test_entries_over_each_other():
    """Two of the directory's entries that lead to the same bytes would make much of little."""
    content = bytes(zipped({"m/a": b"one", "m/b": b"two"}))
    second = content.index(b"PK\1\2", content.index(b"PK\1\2") + 1)
    inner = content[:second].replace(b"m/a", b"m/a") + content[second:]
    first = content.index(b"PK\3\4", 1)
    grown = bytearray(inner)
    for at in (14, content.index(b"PK\1\2") + 16):  # the first's size reaches over the second
        grown[at + 4 : at + 12] = struct.pack("<2I", first, first)
    refused(grown, "lie over each other")


@pytest.mark.parametrize("at", [8, 10, 12, 16])
@pytest.mark.parametrize("number", [0, 1, 0xFFFE])
def test_a_directory_that_is_not_what_its_end_says(at, number):
    content = zipped()
    end = content.index(b"PK\5\6")
    if content[end + at : end + at + 2] == struct.pack("<H", number) or at == 8:
        return
    content[end + at : end + at + 2] = struct.pack("<H", number)
    refused(content, r"directory|no entry|cut|end")


def test_cut_anywhere():
    content = zipped()
    for end in range(len(content) - 1):
        refused(content[:end], ".")


def test_more_entries_than_any_such_file_has():
    content = zipped({"m/a": b"one"})
    end = content.index(b"PK\5\6")
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, end, 1)
    wide = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, 2**40, 2**40, 10, 0)
    refused(content[:end] + wide + locator + content[end:], "directory of")
    for far in (2**63, 2**64 - 1):
        refused(content[:end] + wide + struct.pack("<4sIQI", b"PK\6\7", 0, far, 1) + content[end:], "end is not where")
