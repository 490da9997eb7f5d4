"""Rows embedded in their order, in bounded memory; a row that is too long is named by its file and line."""

from __future__ import annotations

from collections import deque
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

from nimbed._text.rows import BadRow, Row
from nimbed.errors import TruncationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import numpy.typing as npt

    from nimbed import Encoder
    from nimbed._dtypes import Dtype
    from nimbed._types import Role


class Numbered(NamedTuple):
    """A row with its number among the input's."""

    number: int
    row: Row


def embed_rows_in_order(
    encoder: Encoder,
    rows: Iterable[Numbered],
    *,
    role: Role,
    dtype: Dtype,
    refuse: Callable[[BadRow], None],
) -> Iterator[tuple[list[Numbered], npt.NDArray[Any]]]:
    """(rows, their values ``[n, width]``) in blocks.

    Args:
        encoder: that embeds them.
        rows: any number; they are read a block ahead.
        role: whose prompt they get.
        dtype: of the values.
        refuse: told of a row that is too long, if ``truncate="error"``; where it returns, the row is left out.
    """
    left = iter(rows)
    while True:
        waiting: deque[Numbered] = deque()
        done = 0
        try:
            for values in encoder.encode_iter(_noted(left, waiting), role=role, dtype=dtype):
                done += len(values)
                yield [waiting.popleft() for _ in range(len(values))], values
        except TruncationError as err:
            # The error numbers the texts of this stream, of which ``done`` have come back.
            if not (too_long := {item - done for item in err.items}):
                raise
            for item in sorted(too_long):
                refuse(_too_long(waiting[item].row, encoder.info.max_length))
            left = chain([one for item, one in enumerate(waiting) if item not in too_long], left)
        else:
            return


def _noted(rows: Iterable[Numbered], waiting: deque[Numbered]) -> Iterator[str]:
    for one in rows:
        waiting.append(one)
        yield one.row.text


def _too_long(row: Row, max_length: int) -> BadRow:
    reason = f'more than max_length={max_length} tokens; split it, or choose truncate="chunk" or "silent"'
    return BadRow("too many tokens", reason, row.file, row.line, row.end)
