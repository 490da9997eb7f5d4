"""How many processes make a job: measured on its own first parts, where it can matter and there are enough of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

# What one process scales to everywhere, in one memory.
SCALES_TO = 8
# Of a job's parts so much may be made by a number of processes that turns out to be slow.
_MEASURED_SHARE = 4
# Each process holds a model's working memory, so that more of them must be worth it.
_WORTH = 1.05


class Speed(NamedTuple):
    """Of one part: tokens, since texts differ from part to part, and the seconds that they took."""

    tokens: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Choice:
    """So many processes, and why."""

    processes: int
    reason: str


def counts_to_try(cores: Sequence[int]) -> list[int]:
    """Numbers of processes that share the cores evenly: one, one a socket or memory node, and one for SCALES_TO cores.

    Args:
        cores: of each socket or memory node.
    """
    total = sum(cores)
    even = [count for count in range(1, total + 1) if total % count == 0]
    small = next(count for count in even if total // count <= SCALES_TO)
    return sorted({1, small, *({len(cores)} & set(even))})


def choose(
    cores: Sequence[int],
    threads: int,
    parts: int,
    make: Callable[[int], Iterable[Speed]],
    spoiled: str | None = None,
) -> Choice:
    """How many processes are to make the parts.

    Args:
        cores: that may be taken, of each socket or memory node.
        threads: of the encoder.
        parts: that are missing.
        make: makes the next n parts by n processes at once; that work is not lost.
        spoiled: why nothing can be measured, if that is so.
    """
    total = sum(cores)
    if total <= SCALES_TO and len(cores) <= 1:
        return Choice(processes=1, reason=f"one process uses the {_count(total, 'core')} of this machine")
    if threads < total:
        return Choice(processes=1, reason=f"the encoder was opened with {_count(threads, 'thread')} for {total} cores")
    if spoiled is not None:
        return Choice(processes=1, reason=f"not measured: {spoiled}")
    counts = counts_to_try(cores)
    if parts < (needed := _MEASURED_SHARE * sum(counts)):
        return Choice(processes=1, reason=f"not measured: {_count(parts, 'part')}, of {needed} that measuring asks for")
    rates = {count: sum(tokens / seconds for tokens, seconds in make(count)) for count in counts}
    best = min(count for count in counts if rates[count] * _WORTH >= max(rates.values()))
    found = ", ".join(f"{_count(count, 'process', 'es')} {rate:,.0f}" for count, rate in rates.items())
    return Choice(processes=best, reason=f"measured on the first parts, in tokens a second: {found}")


def _count(number: int, name: str, plural: str = "s") -> str:
    return f"{number} {name}{'' if number == 1 else plural}"
