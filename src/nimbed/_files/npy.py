"""A ``.npy`` file whose rows come block by block, and are counted as they come."""

from __future__ import annotations

import os
import secrets
from typing import IO, TYPE_CHECKING

import numpy as np

from nimbed.errors import InputError, NimbedError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from nimbed._types import Float32Array


def write_rows(path: Path, blocks: Iterable[Float32Array], dim: int) -> int:
    """Write blocks ``[n, dim]`` without holding them all; the file appears when it is complete and on the disk.

    Returns:
        How many rows it has.

    Raises:
        InputError: it cannot be written.
    """
    path = path.resolve()  # a link stays one
    if path.exists() and not path.is_file():
        raise InputError(f"{path} cannot be written: it exists and is no file; the header of a .npy is written last")
    # A name of its own: two runs may write to one place, and the file is then the whole of one of them.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    rows = 0
    try:
        with temporary.open("xb") as file:
            begins = _write_header(file, rows, dim)
            for block in blocks:
                file.write(np.ascontiguousarray(block, "<f4").data)
                rows += len(block)
            file.seek(0)
            assert _write_header(file, rows, dim) == begins  # noqa: S101 (numpy leaves room for the count)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as err:
        if isinstance(err, NimbedError):  # of the texts or the engine
            raise
        raise InputError(f"{path} cannot be written: {err}") from err
    finally:
        temporary.unlink(missing_ok=True)
    return rows


def _write_header(file: IO[bytes], rows: int, dim: int) -> int:
    """Numpy's, with room for more rows; returns where the rows begin."""
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (rows, dim)})
    return file.tell()
