"""Whether the event loop computes a short request itself, which has a change of threads less."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nimbed.server.load import Load

# So long the loop may stand still: a request that comes meanwhile would have waited for the engine as well.
_MOST_S = 0.005
# More characters are never computed there, and say nothing of how long fewer take.
_MOST_CHARACTERS = 400
# What a call took counts a tenth less with each that comes after it.
_FORGETS = 0.9
# As long as nothing is known, the model is taken to be slow.
_UNKNOWN_S = 0.02


class Lone:
    """Knows when one request alone is under way, and how long the last of these took.

    Args:
        load: of the server; None where nobody counts requests.
    """

    def __init__(self, load: Load | None) -> None:
        self._load, self._longest_s = load, _UNKNOWN_S

    async def may_hold_the_loop(self, characters: int) -> bool:
        """Whether a request of so many is the only one, and such ones are quick.

        The answer comes a turn of the loop later: what came in the same turn is known then.
        """
        if self._longest_s > _MOST_S or characters > _MOST_CHARACTERS or not self._is_lone:
            return False
        await asyncio.sleep(0)
        return self._is_lone

    def took(self, seconds: float, characters: int) -> None:
        """A call is done; what it took beside others says nothing."""
        if self._is_lone and characters <= _MOST_CHARACTERS:
            self._longest_s = max(seconds, _FORGETS * self._longest_s)

    @property
    def _is_lone(self) -> bool:
        return self._load is not None and self._load.requests == 1
