"""``pytorch_model.bin``, mapped into memory and read without torch: the tensors of a pickle that runs no code.

Of the two forms that ``torch.save`` wrote, the newer (since torch 1.6) is read: a zip archive whose ``data.pkl`` says
which tensor lies where, and whose other entries are the numbers.
"""

from __future__ import annotations

import math
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from nimbed._model_folder.stored_zip import LOCAL, check_crc, read_entries
from nimbed._model_folder.weights_pickle import ForeignPickleError, read_records
from nimbed.errors import ArtefactError, SpecError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from nimbed._model_folder.stored_zip import Entry
    from nimbed._model_folder.weights_pickle import Storage, TensorRecord

    Array = np.ndarray[Any, np.dtype[Any]]

_DTYPES = {
    "BFloat16": np.uint16, "Bool": np.bool_, "Byte": np.uint8, "Char": np.int8, "Double": np.float64,
    "Float": np.float32, "Half": np.float16, "Int": np.int32, "Long": np.int64, "Short": np.int16,
}  # fmt: skip
_MOST_DIMENSIONS = 16
_LARGEST = 1 << 40  # offset, size or stride
# Tied weights share a storage; layers that are all the same have one name for each layer.
_MOST_NAMES = 64
_DIRECTORY = re.compile(r"[^/]+/data\.pkl")


def read_tensors(path: Path) -> dict[str, Array]:
    """The arrays by name, as views of the file. bfloat16 becomes float32, in memory of its own.

    Raises:
        ArtefactError: the file is damaged.
        SpecError: it is of the older form, or holds more than tensors.
    """
    with _explaining(path):
        content, entries, prefix, records = _opened(path)
        storages: dict[Storage, Array] = {}
        for record in records.values():
            if (storage := record.storage) not in storages:
                storages[storage] = _numbers(content, storage, f"{prefix}data/{storage.key}", entries)
        arrays = {name: _view(name, storages[record.storage], record) for name, record in records.items()}
        if sum(array.size for array in arrays.values()) > _MOST_NAMES * sum(map(len, storages.values())):
            raise ValueError(f"its tensors have more than {_MOST_NAMES} times the numbers that it holds")
        return arrays


def read_names(path: Path) -> list[str]:
    """The names of the arrays alone. Raises as :func:`read_tensors`."""
    with _explaining(path):
        return list(_opened(path)[3])


@contextmanager
def _explaining(path: Path) -> Iterator[None]:
    """Errors of the parts, with the file's name and the remedy."""
    try:
        yield
    except ForeignPickleError as err:
        raise SpecError(
            f"{path}: {err}: nimbed reads weights alone and runs no code; if you trust whoever made the file, save "
            f"them as safetensors with transformers: {_conversion(path)}"
        ) from err
    except ValueError as err:
        raise ArtefactError(f"{path} is no file of torch.save's, or damaged: {err}") from err


def _conversion(path: Path) -> str:
    folder = str(path.parent)
    return f"AutoModel.from_pretrained({folder!r}).save_pretrained({folder!r}, safe_serialization=True)"


def _opened(path: Path) -> tuple[Array, dict[str, Entry], str, dict[str, TensorRecord]]:
    """The file, its entries, the folder that they are in, and the tensors."""
    content = np.memmap(path, np.uint8, mode="r")
    if bytes(content[:4]) != LOCAL:
        if content[0] == 0x80 or bytes(content[257:262]) == b"ustar":
            raise ForeignPickleError("it is of the form that torch.save wrote before torch 1.6")
        raise ValueError("it is no zip archive")
    entries = read_entries(content.data)
    pickles = [name for name in entries if _DIRECTORY.fullmatch(name)]
    if len(pickles) != 1:
        raise ValueError(f"it has {len(pickles)} files data.pkl, not one")
    prefix = pickles[0].removesuffix("data.pkl")
    order = entries.get(f"{prefix}byteorder")
    if order is not None and bytes(content[order.begin : order.end]) != b"little":
        raise ForeignPickleError("its numbers are not in little-endian order")
    entry = entries[pickles[0]]
    check_crc(content.data, pickles[0], entry)
    return content, entries, prefix, read_records(bytes(content[entry.begin : entry.end]))


def _numbers(content: Array, storage: Storage, name: str, entries: Mapping[str, Entry]) -> Array:
    """A storage's numbers; the entry of that name holds these and nothing more."""
    dtype = np.dtype(_DTYPES[storage.kind])
    if (entry := entries.get(name)) is None:
        raise ValueError(f"{name!r:.100} is missing")
    if entry.end - entry.begin != storage.count * dtype.itemsize:
        raise ValueError(f"{name} has {entry.end - entry.begin} bytes, not {storage.count} numbers of {dtype}")
    check_crc(content.data, name, entry)
    held = content[entry.begin : entry.end]
    numbers = held.view(dtype) if entry.begin % dtype.itemsize == 0 else np.frombuffer(bytes(held), dtype)
    if storage.kind == "BFloat16":
        return (numbers.astype(np.uint32) << 16).view(np.float32)
    return numbers


def _view(name: str, numbers: Array, record: TensorRecord) -> Array:
    """A tensor within its storage, whose every element lies in it, and which has no more of them than it."""
    shape, strides = record.shape, record.strides
    given = (record.offset, *shape, *strides)
    wrong = len(shape) > _MOST_DIMENSIONS or min(given) < 0 or max(given) > _LARGEST
    size = 0 if wrong else math.prod(shape)
    last = record.offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
    if wrong or (size and max(size - 1, last) >= len(numbers)):
        raise ValueError(f"{name!r:.100}, of {len(shape)} dimensions, does not lie in its storage")
    if not size:
        return np.zeros(shape, numbers.dtype)
    steps = [stride * numbers.itemsize for stride in strides]
    view: Array = np.lib.stride_tricks.as_strided(numbers[record.offset :], shape, steps, writeable=False)
    return view
