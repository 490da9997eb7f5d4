"""``.npy``: vectors alone, in the order of the rows. A part is their bytes without a header."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nimbed._files.npy import write_rows
from nimbed.bulk.layout import NUMBERS
from nimbed.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import numpy.typing as npt

    from nimbed.bulk.layout import Block, Layout


class NpyFormat:
    """See :class:`nimbed.bulk.layout.Format`."""

    name = "npy"
    part_suffix = ".rows"
    folder = False
    readable = True

    def check(self, layout: Layout) -> None:
        """It holds vectors alone."""
        if layout.own_ids or layout.with_text:
            raise InputError("a .npy file holds vectors alone, no ids and no texts; write .parquet or .jsonl")

    def open_part(self, path: Path, layout: Layout) -> NpyPart:
        """Its file."""
        return NpyPart(path, NUMBERS[layout.dtype])

    def join(self, parts: Iterable[Path], out: Path, layout: Layout) -> None:
        """A header, and all rows."""
        blocks = (self.read_part(path, layout) for path in parts)
        write_rows(out, blocks, layout.width, NUMBERS[layout.dtype])

    def read_part(self, path: Path, layout: Layout) -> npt.NDArray[Any]:
        """All of its bytes."""
        return np.fromfile(path, layout.numbers).reshape(-1, layout.width)

    def read_output(self, out: Path, layout: Layout) -> npt.NDArray[Any]:
        """Mapped.

        Raises:
            InputError: it is no such file.
        """
        try:
            found: npt.NDArray[Any] = np.load(out, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as err:
            raise InputError(f"{out} cannot be read: {err}") from err
        if found.ndim != 2 or found.shape[1] != layout.width or found.dtype != layout.numbers:
            raise InputError(f"{out} holds {found.dtype} {found.shape}, not {layout.dtype} [rows, {layout.width}]")
        return found


class NpyPart:
    """See :class:`nimbed.bulk.layout.PartWriter`."""

    def __init__(self, path: Path, numbers: str) -> None:
        self._file = path.open("xb")
        self._numbers = numbers

    def write(self, block: Block) -> None:
        """Their bytes."""
        self._file.write(np.ascontiguousarray(block.values, self._numbers).data)

    def close(self) -> None:
        """The file."""
        self._file.close()
