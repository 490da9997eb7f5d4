"""A ``.npy`` file whose rows come block by block, and are counted as they come."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Any

import numpy as np

from nimbed._files.whole import whole_file, writing
from nimbed.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import numpy.typing as npt


def write_rows(path: Path, blocks: Iterable[npt.NDArray[Any]], dim: int, dtype: str = "<f4") -> int:
    """Write blocks ``[n, dim]`` without holding them all; the file appears when it is complete and on the disk.

    Returns:
        How many rows it has.

    Raises:
        InputError: it cannot be written.
    """
    path = path.resolve()  # a link stays one
    if path.exists() and not path.is_file():
        raise InputError(f"{path} cannot be written: it exists and is no file; the header of a .npy is written last")
    rows = 0
    with writing(path), whole_file(path) as file:
        begins = _write_header(file, (rows, dim), dtype)
        for block in blocks:
            file.write(np.ascontiguousarray(block, dtype).data)
            rows += len(block)
        file.seek(0)
        assert _write_header(file, (rows, dim), dtype) == begins  # noqa: S101 (numpy leaves room for the count)
    return rows


def _write_header(file: IO[bytes], shape: tuple[int, int], dtype: str) -> int:
    """Numpy's, with room for more rows; returns where the rows begin."""
    np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})
    return file.tell()
