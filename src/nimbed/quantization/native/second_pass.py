"""Which products round their inputs twice: those whose rounding the outputs show most, as long as they must improve.

The second pass rounds what the first left, and adds the product of that: activations of about 16 bits, for as many
multiplications again.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

from nimbed.backends.native_layout import PRODUCTS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Settings = dict[str, Any]


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
    error: Callable[[Settings], float],
    *,
    target: float,
    budget: float,
    quick: Callable[[Settings], float] | None = None,
) -> SecondPass:
    """Flag products one after the other, until the error is below the target or the budget is spent.

    Each product's gain is measured by itself, and gains are taken to add up; then the sum is measured.

    Args:
        settings: of the engine in 8 bits, without second passes.
        sizes: multiplications of a token in ``layers.N.product``.
        error: of the outputs with such settings.
        target: an error that is small enough.
        budget: multiplications that second passes may add, as a part of all.
        quick: the error on fewer texts, which tells the products' gains, and whether the sum is worth measuring; None
            takes all.
    """
    before, total = error(settings), sum(sizes.values())
    if before <= target:
        return SecondPass(settings=settings, products=(), error=(before, before), multiplications=1.0)
    quick = quick or error
    expected, after, added = quick(settings), before, 0
    gains = {name: expected - quick(with_passes(settings, [name])) for name in sizes}
    chosen: list[str] = []
    for name in sorted((n for n in gains if gains[n] > 0), key=lambda n: -gains[n] / sizes[n]):
        if (added + sizes[name]) > budget * total:
            continue
        chosen.append(name)
        added += sizes[name]
        expected -= gains[name]
        flagged = with_passes(settings, chosen)
        if expected <= target and quick(flagged) <= target and (after := error(flagged)) <= target:
            break
    else:
        after = error(with_passes(settings, chosen))
    return SecondPass(
        settings=with_passes(settings, chosen),
        products=tuple(chosen),
        error=(before, after),
        multiplications=1 + added / total,
    )


def with_passes(settings: Settings, products: list[str]) -> Settings:
    """The settings, with two passes for these products."""
    made = deepcopy(settings)
    for name in products:
        _, number, product = name.split(".")
        made["layers"][int(number)][product]["passes"] = 2
    return made


def sizes_of(settings: Settings, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """Multiplications of a token by product, of its weights' shapes."""
    names = [f"layers.{number}.{product}" for number in range(len(settings["layers"])) for product in PRODUCTS]
    return {name: prod(shapes[f"{name}.weights"]) for name in names}
