"""Which products round their inputs twice: those whose rounding the outputs show most, as long as they must improve.

What a product's rounding alone does is measured where all others round twice: in a deep network what one adds to the
rounding of all others is lost in what these do already.

The second pass rounds what the first left, and adds the product of that: activations of about 16 bits, for as many
multiplications again.
"""

from __future__ import annotations

from bisect import bisect_left
from copy import deepcopy
from dataclasses import dataclass
from itertools import groupby
from math import prod
from typing import TYPE_CHECKING, Any

from nimbed.backends.native_layout import PRODUCTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    Settings = dict[str, Any]
    Error = Callable[[Settings], float]
    Parts = list[tuple[str, ...]]

# What is judged by itself: more of it takes longer to measure, and tells less of each.
_MOST_PARTS = 48


@dataclass(frozen=True, kw_only=True)
class SecondPass:
    """What was decided.

    Attributes:
        settings: of the engine, with the products' passes.
        products: that round twice, ``layers.N.product``, the most useful first.
        error: mean of ``1 - closeness`` before and after.
        multiplications: of a token, in those without a second pass.
    """

    settings: Settings
    products: tuple[str, ...]
    error: tuple[float, float]
    multiplications: float


def choose(
    settings: Settings,
    sizes: Mapping[str, int],
    error: Error,
    *,
    target: float,
    budget: float,
    aim: float | None = None,
    quick: Error | None = None,
) -> SecondPass:
    """Where the error is above a target, flag as many products as make it small, or as the budget allows.

    What the rounding of each, or of neighbours of a deep network, adds to the error is measured by itself. The most
    useful come first, and of these the fewest that are enough are sought by halves.

    Args:
        settings: of the engine in 8 bits, without second passes.
        sizes: multiplications of a token in ``layers.N.product``.
        error: of the outputs with such settings.
        target: an error at which nothing has to be done.
        budget: multiplications that second passes may add, as a part of all.
        aim: an error at which no further ones are flagged, where some are; None takes the target.
        quick: the error on fewer texts, which tells what each adds, and how many of them are enough; None takes all.
    """
    before = error(settings)
    nothing = SecondPass(settings=settings, products=(), error=(before, before), multiplications=1.0)
    if before <= target:
        return nothing
    quick, aim, total = quick or error, target if aim is None else aim, sum(sizes.values())
    parts = list(_most_useful(_added(settings, sizes, quick), sizes, budget * total))
    chosen, after = _enough(settings, parts, before, error, quick, aim)
    if after >= before:
        return nothing
    return SecondPass(
        settings=with_passes(settings, chosen),
        products=tuple(chosen),
        error=(before, after),
        multiplications=1 + sum(sizes[name] for name in chosen) / total,
    )


def _enough(
    settings: Settings, parts: Parts, before: float, error: Error, quick: Error, aim: float
) -> tuple[list[str], float]:
    """The fewest of the first that bring the error down to the aim, and it; all of them where that is not enough.

    On fewer texts the error may be another: there it has to become smaller by as much.
    """

    def first(count: int) -> list[str]:
        return [name for part in parts[:count] for name in part]

    quick_aim = aim * quick(settings) / before
    counts = range(1, len(parts))
    count = 1 + bisect_left(counts, True, key=lambda some: quick(with_passes(settings, first(some))) <= quick_aim)
    more = 1
    while (after := error(with_passes(settings, first(count)))) > aim and count < len(parts):
        count, more = min(len(parts), count + more), 2 * more
    return first(count), after


def _added(settings: Settings, sizes: Mapping[str, int], error: Error) -> dict[tuple[str, ...], float]:
    """How much larger the error is where some products round once and all others twice, than where all do."""
    floor = error(with_passes(settings, list(sizes)))
    return {
        part: error(with_passes(settings, [name for name in sizes if name not in part])) - floor
        for part in neighbours(sizes)
    }


def _most_useful(
    adds: Mapping[tuple[str, ...], float], sizes: Mapping[str, int], room: float
) -> Iterator[tuple[str, ...]]:
    """Those that there is room for, by what they add to the error for their multiplications, the most first."""
    cost = {part: sum(sizes[name] for name in part) for part in adds}
    for part in sorted((one for one in adds if adds[one] > 0), key=lambda one: -adds[one] / cost[one]):
        if cost[part] <= room:
            room -= cost[part]
            yield part


def neighbours(products: Iterable[str]) -> list[tuple[str, ...]]:
    """``layers.N.product`` of the same product in adjacent layers, as many as are judged together.

    In a network of many layers what one of them adds is small beside what differs from text to text; its neighbours
    are like it.
    """
    ordered = sorted(products, key=_place)
    width = -(-len(ordered) // _MOST_PARTS)

    def part(name: str) -> tuple[str, int]:
        product, number = _place(name)
        return product, number // width

    return [tuple(names) for _, names in groupby(ordered, key=part)]


def _place(name: str) -> tuple[str, int]:
    """The product, and the number of its layer."""
    _, number, product = name.split(".")
    return product, int(number)


def with_passes(settings: Settings, products: list[str]) -> Settings:
    """The settings, with two passes for these products."""
    made = deepcopy(settings)
    for name in products:
        product, number = _place(name)
        made["layers"][number][product]["passes"] = 2
    return made


def sizes_of(settings: Settings, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """Multiplications of a token by product, of its weights' shapes."""
    names = [f"layers.{number}.{product}" for number in range(len(settings["layers"])) for product in PRODUCTS]
    return {name: prod(shapes[f"{name}.weights"]) for name in names}
