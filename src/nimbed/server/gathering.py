"""Short requests that come while others are under way go on as one: what a call costs is paid once for all of them."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from nimbed._types import Float32Array, Int32Array

    Compute = Callable[[Sequence[Any]], Awaitable["Computed"]]

logger = logging.getLogger("nimbed")


class Computed(NamedTuple):
    """What became of some texts or pairs.

    Attributes:
        rows: float32 ``[n, dim]``.
        cut: int32 ``[n]``, for each that lost tokens how many it had, else 0.
        tokens: of each, as the model reads it.
    """

    rows: Float32Array
    cut: Int32Array
    tokens: Sequence[int]

    @property
    def truncated(self) -> int:
        """How many lost tokens."""
        return int(np.count_nonzero(self.cut))

    def of(self, part: slice) -> Computed:
        """What became of those."""
        return Computed(self.rows[part], self.cut[part], self.tokens[part])


class Gathering:
    """Short lists of items to one call for all that an event loop reads in a turn.

    There is no wait: what comes alone goes alone, and what comes in the same turn as others goes on at its end. Where
    the call for all fails each list has a call of its own, so that nobody gets another's error. A caller that is
    cancelled leaves the others theirs; the call is cancelled with the last of them.

    Args:
        compute: what a call does.
        characters: of all items of a call, at most.
    """

    def __init__(self, compute: Compute, *, characters: int) -> None:
        self._compute = compute
        self._room = characters
        self._running = 0
        self._group: _Group | None = None

    async def compute(self, items: Sequence[Any]) -> Computed:
        """What becomes of the items.

        Raises:
            NimbedError: they could not be computed.
        """
        if not self._running:
            return await self._alone(items)
        found = await self._open_group(sum(map(len, items))).put(items)
        return await self._alone(items) if found is None else found

    async def _alone(self, items: Sequence[Any]) -> Computed:
        self._running += 1
        try:
            return await self._compute(items)
        finally:
            self._running -= 1

    def _open_group(self, characters: int) -> _Group:
        """The one of this turn, where it has room."""
        group, loop = self._group, asyncio.get_running_loop()
        if group is None or not group.takes(characters, loop):
            group = self._group = _Group(self._alone, self._room, loop)
        group.room -= characters
        return group


class _Group:
    """Lists that are computed together from the end of this turn of the event loop on."""

    def __init__(self, compute: Compute, room: int, loop: asyncio.AbstractEventLoop) -> None:
        self.room = room
        self._compute, self._loop = compute, loop
        self._items: list[Any] = []
        self._members: list[tuple[slice, asyncio.Future[Computed | None]]] = []
        self._gone = 0
        self._task: asyncio.Task[None] | None = None
        loop.call_soon(self._start)

    def takes(self, characters: int, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether so many more find room before it starts."""
        return self._task is None and self._loop is loop and characters <= self.room

    def put(self, items: Sequence[Any]) -> asyncio.Future[Computed | None]:
        """What becomes of the items; None where they have to be computed alone."""
        start = len(self._items)
        self._items += items
        member: asyncio.Future[Computed | None] = self._loop.create_future()
        member.add_done_callback(self._leave)
        self._members.append((slice(start, len(self._items)), member))
        return member

    def _start(self) -> None:
        self._task = self._loop.create_task(self._run())

    async def _run(self) -> None:
        found: Computed | None = None
        try:
            if self._gone < len(self._members):
                found = await self._compute(self._items)
        except Exception as err:  # noqa: BLE001 (whose it is shows when each goes alone)
            logger.debug("%d that came together met %s: each goes alone", len(self._members), type(err).__name__)
        finally:
            for part, member in self._members:
                if not member.done():
                    member.set_result(None if found is None else found.of(part))

    def _leave(self, _: object) -> None:
        """One has its outcome, or its caller went away: with the last of them nobody waits for the call."""
        self._gone += 1
        if self._gone == len(self._members) and self._task is not None:
            self._task.cancel()
