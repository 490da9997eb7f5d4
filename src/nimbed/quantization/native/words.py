"""The table of words in fewer bytes: it is most of a multilingual model, and a lookup reads a few rows of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nimbed.backends.native_layout import LINE, padded
from nimbed.quantization.native.rounding import steps_of

if TYPE_CHECKING:
    from nimbed._types import Float32Array

    Array = np.ndarray[Any, np.dtype[Any]]

# Rows that are converted at once, so that no second table of float32 is made.
_ROWS = 4096


def in_int8(words: Float32Array) -> dict[str, Array]:
    """Rows in 8 bits, with a scale each (and padding): the largest number of a row is 127 of its steps."""
    made, scale = np.empty(words.shape, np.int8), np.zeros(padded(len(words), LINE), np.float32)
    for start in range(0, len(words), _ROWS):
        rows = words[start : start + _ROWS]
        step = steps_of(np.abs(rows).max(axis=1))
        made[start : start + _ROWS] = np.rint(rows / step[:, None])
        scale[start : start + len(step)] = step
    return {"words": made, "words.scale": scale}


def in_bf16(words: Float32Array) -> dict[str, Array]:
    """The upper halves of the numbers, rounded to the nearest, to the even one between two."""
    made = np.empty(words.shape, np.uint16)
    for start in range(0, len(words), _ROWS):
        bits = np.ascontiguousarray(words[start : start + _ROWS]).view(np.uint32)
        made[start : start + _ROWS] = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return {"words": made}
