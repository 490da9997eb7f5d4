"""What stands in an output: the records that formats, parts and jobs share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from nimbed._dtypes import Dtype

# By the names that Encoder.encode has for them: of one number as it is stored.
NUMBERS = {"float32": "<f4", "float16": "<f2", "int8": "|i1", "ubinary": "|u1"}


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What a row of the output holds.

    Attributes:
        width: numbers of a vector; of "ubinary" bytes.
        dtype: of them.
        own_ids: whether ids are the input's own strings, else rows' numbers.
        with_text: whether the text stands beside the vector.
        facts: of the model, for formats that keep them (:func:`nimbed.guard.stamp`).
    """

    width: int
    dtype: Dtype = "float32"
    own_ids: bool = False
    with_text: bool = False
    facts: Mapping[str, str | int | float | bool] = field(default_factory=dict)

    @property
    def numbers(self) -> np.dtype[Any]:
        """The vectors' type in numpy."""
        return np.dtype(NUMBERS[self.dtype])

    @property
    def row_bytes(self) -> int:
        """Of a vector."""
        return self.width * self.numbers.itemsize


class Block(NamedTuple):
    """Some rows with what was computed of them.

    Attributes:
        ids: a row's own id or its number.
        texts: that were embedded.
        values: of whatever kind the output is; dense vectors are ``[n, width]``.
    """

    ids: Sequence[str | int]
    texts: Sequence[str]
    values: npt.NDArray[Any]


class PartWriter(Protocol):
    """Writes one part; its bytes depend on the rows alone, and not on how they come in blocks."""

    def write(self, block: Block) -> None:
        """The next rows."""

    def close(self) -> None:
        """All were written."""


class Format(Protocol):
    """A kind of output; all methods are of one kind of values (dense vectors today)."""

    name: str
    part_suffix: str
    # Whether the output is the folder of its parts; otherwise they are joined into it.
    folder: bool
    # Whether an update can read vectors back.
    readable: bool

    def check(self, layout: Layout) -> None:
        """Raise where it cannot hold such rows, or its package is missing."""

    def open_part(self, path: Path, layout: Layout) -> PartWriter:
        """Begin a part at a path that does not exist yet."""
        ...

    def join(self, parts: Iterable[Path], out: Path, layout: Layout) -> None:
        """Make the output of its parts; it appears when it is complete and on the disk."""

    def read_part(self, path: Path, layout: Layout) -> npt.NDArray[Any]:
        """The vectors of a part, ``[rows, width]``."""
        ...

    def read_output(self, out: Path, layout: Layout) -> npt.NDArray[Any]:
        """The vectors of an output that its parts were joined into, mapped rather than read."""
        ...
