"""A table of words in a file that is mapped into memory, of which a lookup reads a few rows."""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    Array = np.ndarray[Any, np.dtype[Any]]

# Of smaller tables all may stay resident.
_MIN_BYTES = 64 << 20
# Tokens between two times. Their pages take a third of a millisecond, their network hundreds.
_TOKENS = 256


class MappedTable:
    """Its pages that were read lately are resident, and no others.

    Around a page that is read the system maps 64 KB to 2 MB, so that a few texts would leave all of a table resident.
    What is given back stays in the system's cache of files.

    Args:
        array: the table; a part of a mapping.
        mapping: of the file.
    """

    def __init__(self, array: Array, mapping: mmap.mmap) -> None:
        start = array.ctypes.data - np.frombuffer(mapping, np.uint8).ctypes.data
        first, end = -(-start // mmap.PAGESIZE), (start + array.nbytes) // mmap.PAGESIZE
        self._part = first * mmap.PAGESIZE, (end - first) * mmap.PAGESIZE
        self._mapping = mapping
        self._tokens = 0

    @classmethod
    def of(cls, arrays: Mapping[str, Array]) -> MappedTable | None:
        """That of a network's arrays, or None where it is small or in memory of its own."""
        table = arrays["words"]
        base: Any = table
        while isinstance(base, np.ndarray):
            base = base.base
        is_mapped = isinstance(base, mmap.mmap) and hasattr(base, "madvise")
        return cls(table, base) if is_mapped and table.nbytes >= _MIN_BYTES else None

    def looked_up(self, tokens: int) -> None:
        """So many rows were read; from any thread."""
        self._tokens += tokens
        if self._tokens >= _TOKENS:
            self._tokens = 0
            self._mapping.madvise(mmap.MADV_DONTNEED, *self._part)
