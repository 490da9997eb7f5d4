"""The files that an ONNX graph names, read off its bytes; messages are put together here by hand."""

from __future__ import annotations

import mmap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimbed._model_folder.onnx import external_data


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def tensor(**entries: str) -> bytes:
    return b"".join(field(13, field(1, key.encode()) + field(2, value.encode())) for key, value in entries.items())


def names(content: bytes) -> list[str]:
    with mmap.mmap(-1, len(content)) as mapped:
        mapped.write(content)
        return external_data(mapped)


def test_tensors_of_the_graph_and_of_its_nodes(tmp_path):
    initializer = field(5, tensor(location="weights.bin", offset="0"))
    attribute = field(5, field(5, tensor(location="部分/b.bin")))
    body = field(5, field(6, field(5, tensor(location="c.bin"))))  # a graph within an attribute, as of a loop
    graph = field(7, initializer + field(1, attribute) + field(1, body))
    assert sorted(names(graph)) == ["c.bin", "weights.bin", "部分/b.bin"]


def test_numbers_of_other_kinds_are_passed_over():
    graph = varint(1 << 3) + varint(10) + varint(2 << 3 | 1) + bytes(8) + varint(3 << 3 | 5) + bytes(4)
    assert names(graph + field(7, field(5, tensor(location="a")))) == ["a"]


def test_data_within_the_graph_names_no_file():
    assert names(field(7, field(5, field(9, b"\0" * 16)))) == []


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\x80" * 11, "ends no number"),
        (varint(7 << 3 | 2) + varint(9) + b"short", "a field ends at byte"),
        (varint(7 << 3 | 3) + b"a", "begins no field"),
    ],
)
def test_what_is_no_graph_is_refused(content, says):
    with pytest.raises(ValueError, match=says):
        names(content)


@given(st.binary(min_size=1, max_size=60))
def test_any_bytes_give_names_or_a_value_error(content):
    try:
        found = names(content)
    except ValueError:
        return
    assert all(isinstance(name, str) for name in found)
