"""Which files an ONNX graph keeps its weights in, read off its own bytes: that takes no onnx package.

The format is https://protobuf.dev/programming-guides/encoding with the messages of
https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from mmap import mmap

# The fields, by number, through which a model leads to a tensor's StringStringEntryProto.
_FIELDS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
_KEY, _VALUE = 1, 2
_VARINT, _EIGHT_BYTES, _DELIMITED, _FOUR_BYTES = 0, 1, 2, 5


def external_data(content: mmap) -> list[str]:
    """The ``location`` of each tensor whose data is in another file.

    Raises:
        ValueError: the bytes are no such message.
    """
    locations = []
    left = [("model", 0, len(content))]
    while left:
        message, begin, end = left.pop()
        parts = list(_parts(content, begin, end))
        if message == "entry":
            texts = {number: bytes(content[start:stop]) for number, start, stop in parts}
            if texts.get(_KEY) == b"location":
                locations.append(texts.get(_VALUE, b"").decode())
            continue
        fields = _FIELDS[message]
        left += [(fields[number], start, stop) for number, start, stop in parts if number in fields]
    return locations


def _parts(content: mmap, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number, begin and end of each field of a message that is a message or text itself."""
    while at < end:
        tag, at = _varint(content, at, end)
        kind, begin = tag & 7, at
        if kind == _VARINT:
            _, at = _varint(content, at, end)
        elif kind == _DELIMITED:
            size, begin = _varint(content, at, end)
            at = begin + size
        elif kind in {_EIGHT_BYTES, _FOUR_BYTES}:
            at += 8 if kind == _EIGHT_BYTES else 4
        else:
            raise ValueError(f"byte {at} begins no field of an ONNX graph")
        if at > end:
            raise ValueError(f"a field ends at byte {at}, what holds it at {end}")
        if kind == _DELIMITED:
            yield tag >> 3, begin, at


def _varint(content: mmap, at: int, end: int) -> tuple[int, int]:
    """The number that begins there, seven bits a byte, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            break
        byte = content[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError(f"byte {at} ends no number")
