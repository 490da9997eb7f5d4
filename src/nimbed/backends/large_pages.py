"""Weights in large pages: of those that a pass reads from end to end the processor keeps the addresses at hand.

Of pages of 4 KB a large network has a hundred thousand, more than the processor's table of translations (TLB) has room
for. While it looks one up, what was to be fetched ahead is late, or is not fetched. Linux gives pages of 2 MB to memory
of a process's own that asks for them, and to files hardly ever.
"""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nimbed._model_folder.safetensors import release
from nimbed.backends.native_layout import padded

if TYPE_CHECKING:
    from collections.abc import Mapping

    Array = np.ndarray[Any, np.dtype[Any]]

_SETTING = Path("/sys/kernel/mm/transparent_hugepage/enabled")
_PAGE = 2 << 20
_LINE = 64


def offered() -> bool:
    """Whether this system gives large pages to who asks for them."""
    try:
        return "[never]" not in _SETTING.read_text(encoding="ascii")
    except (OSError, ValueError):
        return False


def in_large_pages(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Copies of the arrays, each at a multiple of 64 bytes, in one piece of this process's memory.

    What the pages of files that were read for it take is given back.

    Raises:
        OSError: the memory could not be had (ENOMEM).
    """
    sizes = {name: padded(array.nbytes, _LINE) for name, array in arrays.items()}
    memory = mmap.mmap(-1, sum(sizes.values()) + _PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_HUGEPAGE)
    free = np.frombuffer(memory, np.uint8)
    free = free[-free.ctypes.data % _PAGE :]
    copies = {}
    for name, array in arrays.items():
        copies[name] = free[: array.nbytes].view(array.dtype).reshape(array.shape)
        copies[name][...] = array
        release([array])
        free = free[sizes[name] :]
    return copies
