"""``.jsonl``: an object a row, with ``id``, ``text`` where it is asked for, and ``vector``."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

from nimbed._files.whole import whole_file, writing

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import numpy.typing as npt

    from nimbed.bulk.layout import Block, Layout

_ROWS = 64  # numbers become Python's for so many rows at once


class JsonlFormat:
    """See :class:`nimbed.bulk.layout.Format`."""

    name = "jsonl"
    part_suffix = ".jsonl"
    folder = False
    readable = False

    def check(self, layout: Layout) -> None:
        """It holds whatever there is."""

    def open_part(self, path: Path, layout: Layout) -> JsonlPart:
        """Its file."""
        return JsonlPart(path, with_text=layout.with_text)

    def join(self, parts: Iterable[Path], out: Path, layout: Layout) -> None:  # noqa: ARG002
        """All lines."""
        with writing(out), whole_file(out.resolve()) as file:
            for path in parts:
                with path.open("rb") as part:
                    shutil.copyfileobj(part, file, 1 << 20)

    def read_part(self, path: Path, layout: Layout) -> npt.NDArray[Any]:
        """Not from text."""
        raise NotImplementedError

    def read_output(self, out: Path, layout: Layout) -> npt.NDArray[Any]:
        """Not from text."""
        raise NotImplementedError


class JsonlPart:
    """See :class:`nimbed.bulk.layout.PartWriter`."""

    def __init__(self, path: Path, *, with_text: bool) -> None:
        self._file = path.open("xb")
        self._with_text = with_text

    def write(self, block: Block) -> None:
        """A line each; floats keep all of their bits."""
        for first in range(0, len(block.ids), _ROWS):
            rows = zip(
                block.ids[first : first + _ROWS],
                block.texts[first : first + _ROWS],
                block.values[first : first + _ROWS].tolist(),
                strict=True,
            )
            self._file.write("".join(self._line(*row) for row in rows).encode())

    def close(self) -> None:
        """The file."""
        self._file.close()

    def _line(self, row: str | int, text: str, vector: list[float]) -> str:
        values = {"id": row, "text": text, "vector": vector} if self._with_text else {"id": row, "vector": vector}
        return json.dumps(values, ensure_ascii=False) + "\n"
