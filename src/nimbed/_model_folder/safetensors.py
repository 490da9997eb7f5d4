"""safetensors files, mapped into memory rather than read: https://github.com/huggingface/safetensors (format)."""

from __future__ import annotations

import json
import math
import mmap
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from nimbed.errors import ArtefactError, SpecError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    Array = np.ndarray[Any, np.dtype[Any]]

_DTYPES = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": np.uint16, "I64": np.int64, "I32": np.int32,
    "I16": np.int16, "I8": np.int8, "U64": np.uint64, "U32": np.uint32, "U16": np.uint16, "U8": np.uint8,
    "BOOL": np.bool_,
}  # fmt: skip
_NAMES = {np.dtype(dtype): name for name, dtype in _DTYPES.items() if name != "BF16"}
_LONGEST_HEADER = 100_000_000  # the format's own limit
# Arrays begin at multiples of a cache line.
_ALIGNMENT = 64


def read_tensors(path: Path) -> tuple[dict[str, Array], dict[str, str]]:
    """The arrays by name, as views of the file, and its metadata. bfloat16 becomes float32, in memory of its own.

    Raises:
        ArtefactError: the file is damaged: it is cut, or its header does not describe it.
        SpecError: it holds numbers of a kind that no engine here computes with.
    """
    try:
        header, metadata, data = _opened(path)
        _refuse_kinds(path, header)
        return {name: _view(data, record) for name, record in header.items()}, metadata
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as err:
        raise ArtefactError(f"{path} is no safetensors file, or damaged: {err}") from err


def is_mapped(array: Array) -> bool:
    """Whether an array is a view of a read-only file's mapping."""
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    return isinstance(base, mmap.mmap) and memoryview(base).readonly


def release(arrays: Iterable[object]) -> None:
    """Give back what pages of files take that arrays are views of; who reads the arrays again has them read again."""
    files = {id(file): file for array in arrays if (file := getattr(array, "_mmap", None)) is not None}
    for file in files.values():
        file.madvise(mmap.MADV_DONTNEED)


def read_names(path: Path) -> list[str]:
    """The names of the arrays alone. Raises as :func:`read_tensors`."""
    try:
        return list(_opened(path)[0])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as err:
        raise ArtefactError(f"{path} is no safetensors file, or damaged: {err}") from err


def _opened(path: Path) -> tuple[dict[str, Any], dict[str, str], Array]:
    """The arrays' records, the metadata, and the bytes behind them."""
    mapped = np.memmap(path, np.uint8, mode="r")
    size = int(mapped[:8].view("<u8")[0]) if len(mapped) >= 8 else _LONGEST_HEADER
    if size > min(_LONGEST_HEADER, len(mapped) - 8):
        raise ValueError(f"a header of {size} bytes in a file of {len(mapped)}")
    header = json.loads(bytes(mapped[8 : 8 + size]))
    metadata = {str(key): str(value) for key, value in header.pop("__metadata__", {}).items()}
    _refuse_overlaps(header)
    return header, metadata, mapped[8 + size :]


def _refuse_overlaps(header: Mapping[str, Any]) -> None:
    """Each array that is widened takes memory of its own: without them, no more than twice the file's."""
    places = sorted((*record["data_offsets"], name) for name, record in header.items())
    for (_, end, one), (begin, _, other) in pairwise(places):
        if begin < end:
            raise ValueError(f"{one} and {other} overlap")


def _refuse_kinds(path: Path, header: Mapping[str, Any]) -> None:
    for name, record in header.items():
        if str(kind := record["dtype"]).startswith("F") and kind not in _DTYPES:  # F8_E4M3 and the like
            raise SpecError(
                f"{path}: {name} is in {kind}: no engine of nimbed's computes with such weights, servers on GPUs "
                "(vLLM, say) do; take the model's weights in bf16, fp16 or fp32"
            )


def _view(data: Array, record: Mapping[str, Any]) -> Array:
    dtype, shape, (begin, end) = np.dtype(_DTYPES[record["dtype"]]), record["shape"], record["data_offsets"]
    if not all(isinstance(n, int) and n >= 0 for n in (*shape, begin, end)):
        raise ValueError(f"shape {shape} at {begin} to {end}")
    if end > len(data) or end - begin != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"shape {shape} does not fit into bytes {begin} to {end} of {len(data)}")
    values = (
        data[begin:end].view(dtype) if begin % dtype.itemsize == 0 else np.frombuffer(bytes(data[begin:end]), dtype)
    )
    values = values.reshape(shape)
    if record["dtype"] == "BF16":
        values = (values.astype(np.uint32) << 16).view(np.float32)
    view: Array = values
    return view


def write_tensors(path: Path, arrays: Mapping[str, Array], metadata: Mapping[str, str]) -> None:
    """Write arrays so that each begins at a multiple of 64 bytes when the file is mapped."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    at = 0
    for name, array in arrays.items():
        if array.nbytes % _ALIGNMENT:
            raise ValueError(f"{name} has {array.nbytes} bytes, which is no multiple of {_ALIGNMENT}")
        header[name] = {
            "dtype": _NAMES[array.dtype], "shape": list(array.shape), "data_offsets": [at, at + array.nbytes],
        }  # fmt: skip
        at += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-(len(text) + 8) % _ALIGNMENT)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for array in arrays.values():
            file.write(np.ascontiguousarray(array).data)
