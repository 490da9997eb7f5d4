"""The frequencies of rotary positions (Su et al. 2021), as configs of several generations say them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nimbed._model_folder.networks.config import expect

if TYPE_CHECKING:
    from typing import Any

    from nimbed._files.json import Fields
    from nimbed._model_folder.networks.family import Source

    Int64Array = np.ndarray[Any, np.dtype[np.int64]]

# Of transformers' rope_parameters, those that no network here honours.
_SPECIAL = (
    *("attention_factor", "beta_fast", "beta_slow", "long_factor", "short_factor", "low_freq_factor"),
    *("high_freq_factor", "mixed_b", "mrope_section"),
)


def frequencies(theta: float, head_dim: int, turning: int | None = None) -> tuple[float, ...]:
    """The radians a token by which each pair of components turns: ``theta ** (-2 i / turning)``.

    Args:
        theta: the base.
        head_dim: width of a head.
        turning: components that turn, an even number; the others have frequency 0. All by default.
    """
    turning = head_dim if turning is None else turning
    turns = tuple(theta ** (-2 * i / turning) for i in range(turning // 2))
    return turns + (0.0,) * (head_dim // 2 - len(turns))


def rotary_of(config: Fields, head_dim: int, theta: float) -> tuple[float, ...]:
    """The frequencies that ``rope_theta``, ``rope_scaling`` or transformers 5's ``rope_parameters`` say.

    Args:
        config: of the folder.
        head_dim: width of a head.
        theta: the base where none is said.

    Raises:
        SpecError: they are scaled in a way that is not honoured; names file and key.
    """
    newer = config.fields("rope_parameters", default=None)
    scaling = newer if newer is not None else config.fields("rope_scaling", default=None)
    theta = config.number("rope_theta", default=theta, minimum=1)
    if scaling is None:
        return frequencies(theta, head_dim)
    for key in _SPECIAL:
        expect(scaling, key)
    expect(scaling, "partial_rotary_factor", 1, 1.0)
    kind = "rope_type" if "rope_type" in scaling else "type"
    expect(scaling, kind, "default", "linear", "ntk")
    theta = scaling.number("rope_theta", default=theta, minimum=1)
    factor = scaling.number("factor", default=1.0, minimum=1) if scaling.get(kind) in {"linear", "ntk"} else 1.0
    if scaling.get(kind) == "ntk" and factor > 1:  # https://kexue.fm/archives/9706, with one factor for all positions
        theta, factor = theta * factor, factor ** (2 / head_dim)
    return tuple(turn / factor for turn in frequencies(theta, head_dim))


def halves(heads: int, head_dim: int, turning: int, *, interleaved: bool) -> Int64Array:
    """The order of a head's components in which those that turn together are half a head apart, for all heads.

    Args:
        heads: that there are.
        head_dim: width of each.
        turning: components that turn, from the first on.
        interleaved: whether neighbours turn together; else the halves of those that turn.
    """
    pairs = np.arange(turning).reshape(-1, 2).T if interleaved else np.arange(turning).reshape(2, -1)
    still = np.arange(turning, head_dim).reshape(2, -1)
    order = np.concatenate([pairs, still], axis=1).reshape(-1)
    everywhere: Int64Array = (np.arange(heads)[:, None] * head_dim + order).reshape(-1)
    return everywhere


def reordered(sources: dict[str, Source], layers: int, order: Int64Array) -> None:
    """Puts the rows of all queries and keys into an order."""
    for number in range(layers):
        for part in ("query", "key"):
            for kind in ("weight", "bias"):
                name = f"layers.{number}.{part}.{kind}"
                sources[name] = sources[name].rows(order)
