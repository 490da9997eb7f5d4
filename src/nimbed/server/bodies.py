"""Vectors as JSON: slice after slice, in pieces that leave the event loop its turn."""

from __future__ import annotations

import asyncio
import binascii
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from nimbed.server.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from nimbed._types import Float32Array
    from nimbed.server.gathering import Computed
    from nimbed.server.request import Request, Work

    # Vectors and the number of the first to items of a JSON list, with commas between them and nothing around.
    Write = Callable[[int, Float32Array], bytes]

# Numbers that are written at a stretch, in about half a millisecond. Writing holds the GIL, on whatever thread.
_INLINE_NUMBERS = 25_000


class JsonList:
    """A JSON list of an answer, written piece by piece; of bounded size, and held as the request's.

    Args:
        request: whose answer has it.
    """

    def __init__(self, request: Request) -> None:
        self._held, self._most = request.held, request.settings.limits.held_bytes
        self._pieces: list[bytes] = []
        self._size = 0

    def add(self, items: bytes) -> None:
        """Further items, with commas between them.

        Raises:
            ApiError: the answer is too large, or others' leave no room for it.
        """
        self._size += len(items)
        if self._size > self._most:
            raise ApiError("too_long", f"the answer has more than {self._most} bytes: ask for fewer texts at once")
        self._held.take(len(items))
        self._pieces.append((b"," if self._pieces else b"[") + items)

    def whole(self) -> list[bytes]:
        """The list, in pieces."""
        return [*self._pieces, b"]"] if self._pieces else [b"[]"]


async def written(
    request: Request, parts: AsyncGenerator[Computed, None], write: Write, *, truncate: bool
) -> list[bytes]:
    """Vectors as a JSON list, in pieces, written as they come.

    Args:
        request: that asks; its record counts them.
        parts: of its vectors.
        write: its dialect's form of them.
        truncate: whether a text may lose tokens.

    Raises:
        ApiError: a text lost tokens and may not, or the answer is too large.
    """
    found, texts = JsonList(request), 0
    async with aclosing(parts):
        async for part in parts:
            count(part, texts, request.work, truncate=truncate)
            for piece in await _pieces(texts, part.rows, write):
                found.add(piece)
            texts += len(part.rows)
    return found.whole()


def count(part: Computed, first: int, work: Work, *, truncate: bool) -> None:
    """Say in the request's record what a part took; raise where a text lost tokens and may not."""
    if not truncate and part.cut.any():
        at = int(np.flatnonzero(part.cut)[0])
        raise ApiError("too_long", f"item {first + at} has {part.cut[at]} tokens, more than the model reads")
    work.tokens += sum(part.tokens)
    work.truncated += part.truncated


async def _pieces(first: int, rows: Float32Array, write: Write) -> list[bytes]:
    if rows.size <= _INLINE_NUMBERS:
        return [write(first, rows)]
    step = max(1, _INLINE_NUMBERS // rows.shape[1])
    return [
        await asyncio.to_thread(write, first + start, rows[start : start + step]) for start in range(0, len(rows), step)
    ]


def items_of(values: list[Any]) -> bytes:
    """A list's items in JSON, with commas between them."""
    return orjson.dumps(values)[1:-1]


def plain(_first: int, rows: Float32Array) -> bytes:
    """Lists of numbers."""
    return orjson.dumps(rows, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1]


def openai_floats(first: int, rows: Float32Array) -> bytes:
    """OpenAI's objects, with lists of numbers."""
    items = [{"object": "embedding", "index": first + at, "embedding": row} for at, row in enumerate(rows)]
    return orjson.dumps(items, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1]


def openai_base64(first: int, rows: Float32Array) -> bytes:
    """OpenAI's objects, with the numbers' bytes (little-endian float32) in base64."""
    items = [
        {"object": "embedding", "index": first + at, "embedding": binascii.b2a_base64(row, newline=False).decode()}
        for at, row in enumerate(rows.astype("<f4", copy=False))
    ]
    return orjson.dumps(items)[1:-1]
