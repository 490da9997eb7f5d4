"""How one part is made: its rows read, looked up or embedded, and written."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nimbed._text.rows import BadRow
from nimbed.bulk.layout import Block
from nimbed.bulk.manifest import PartRecord
from nimbed.bulk.part_files import PartFiles, hash_of
from nimbed.bulk.stream import Numbered, embed_rows_in_order

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    import numpy.typing as npt

    from nimbed import Encoder
    from nimbed._text.rows import Row
    from nimbed.bulk.layout import Layout
    from nimbed.bulk.plan import Part
    from nimbed.bulk.previous import Previous
    from nimbed.bulk.request import Request


class _Values(NamedTuple):
    """Rows with what stands for them in the output."""

    rows: list[Numbered]
    values: npt.NDArray[Any]
    hashes: list[bytes]
    kept: int


class PartMaker:
    """Makes parts, one after another.

    Args:
        request: what is asked for.
        folder: where the parts lie.
        encoder: used by nobody else meanwhile, so that what it counts are this job's texts.
        layout: of the rows.
        previous: whose vectors an update takes.
    """

    def __init__(
        self, request: Request, folder: Path, encoder: Encoder, layout: Layout, previous: Previous | None
    ) -> None:
        self._request, self._folder = request, folder
        self._encoder, self._layout, self._previous = encoder, layout, previous

    def make(
        self, number: int, part: Part, rows: Iterable[Row | BadRow], seen: Callable[[int], object]
    ) -> tuple[PartFiles, PartRecord]:
        """The part, written and not yet published; its record lacks the files.

        Args:
            number: of the part.
            part: of the plan.
            rows: of the part.
            seen: told of rows that were embedded, kept or skipped.

        Raises:
            InputError: a row is bad, and bad rows are errors; names file and line.
        """
        truncated = self._encoder.stats().truncated
        files = PartFiles(self._folder, number, self._request.form, self._layout)
        skip = partial(self._skip, files, seen)
        names: set[str] = set()
        kept = 0
        try:
            for some in self._values(_good(rows, part.first, skip, names), skip):
                files.write(self._block(some), some.hashes)
                kept += some.kept
                seen(len(some.rows))
            files.close()
        except BaseException:
            files.discard()
            raise
        return files, PartRecord(
            part=number,
            input=min(names, default=""),
            first=part.first,
            rows=files.rows,
            kept=kept,
            truncated=self._encoder.stats().truncated - truncated,
            skipped=dict(files.skipped),
            files={},
        )

    def _skip(self, files: PartFiles, seen: Callable[[int], object], row: BadRow) -> None:
        if self._request.on_error == "raise":
            raise row.error()
        files.skip(row)
        seen(1)

    def _block(self, some: _Values) -> Block:
        ids = [one.number if one.row.id is None else one.row.id for one in some.rows]
        return Block(ids, [one.row.text for one in some.rows], some.values)

    def _values(self, rows: Iterable[Numbered], skip: Callable[[BadRow], None]) -> Iterator[_Values]:
        if self._previous is None:
            for some, values in self._embedded(rows, skip):
                yield _Values(some, values, [hash_of(one.row.text) for one in some], 0)
        else:
            yield self._looked_up(list(rows), skip, self._previous)

    def _embedded(
        self, rows: Iterable[Numbered], skip: Callable[[BadRow], None]
    ) -> Iterator[tuple[list[Numbered], npt.NDArray[Any]]]:
        request = self._request
        return embed_rows_in_order(self._encoder, rows, role=request.role, dtype=request.dtype, refuse=skip)

    def _looked_up(self, rows: list[Numbered], skip: Callable[[BadRow], None], previous: Previous) -> _Values:
        """All rows of a part: what an update knows, and the rest embedded."""
        hashes = [hash_of(one.row.text) for one in rows]
        positions = previous.find(hashes)
        known = positions >= 0
        values = np.empty((len(rows), self._layout.width), self._layout.numbers)
        values[known] = previous.vectors(positions[known])
        at = {one.number: index for index, one in enumerate(rows)}
        left = known.copy()
        for some, found in self._embedded([rows[index] for index in np.flatnonzero(~known)], skip):
            places = [at[one.number] for one in some]
            values[places], left[places] = found, True
        chosen = np.flatnonzero(left)
        kept = int(np.count_nonzero(known))
        return _Values([rows[i] for i in chosen], values[chosen], [hashes[i] for i in chosen], kept)


def _good(
    rows: Iterable[Row | BadRow], first: int, skip: Callable[[BadRow], None], names: set[str]
) -> Iterator[Numbered]:
    for number, row in enumerate(rows, first):
        if not names:
            names.add(row.file)
        if isinstance(row, BadRow):
            skip(row)
        else:
            yield Numbered(number, row)
