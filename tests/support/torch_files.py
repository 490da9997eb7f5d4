"""Files as ``torch.save`` writes them, and as nobody but an attacker does; made without torch."""

from __future__ import annotations

import struct
import zipfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n"
DICTIONARY = b"ccollections\nOrderedDict\n"


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def number(value: int) -> bytes:
    raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def numbers(values: Sequence[int]) -> bytes:
    return b"(" + b"".join(map(number, values)) + b"t"


def storage(key: str, count: int, kind: str = "Float") -> bytes:
    return (
        b"(" + text("storage") + f"ctorch\n{kind}Storage\n".encode() + text(key) + text("cpu") + number(count) + b"tQ"
    )


def tensor(held: bytes, shape: Sequence[int], strides: Sequence[int], offset: int = 0) -> bytes:
    described = held + number(offset) + numbers(shape) + numbers(strides) + b"\x89" + DICTIONARY + b")R"
    return TENSOR + b"(" + described + b"tR"


def state(**values: bytes) -> bytes:
    """The pickle of a dictionary with these pickled values."""
    items = b"".join(text(name) + value for name, value in values.items())
    return b"\x80\x02" + DICTIONARY + b")R(" + items + b"u."


def archive(path: Path, code: bytes, storages: Mapping[str, bytes] | None = None) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name, content in {"data.pkl": code, "byteorder": b"little"}.items():
            file.writestr(f"model/{name}", content)
        for key, content in (storages or {}).items():
            file.writestr(f"model/data/{key}", content)
    return path
