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

# What a set of them may say. The length of the texts of a training counts for scalings that are refused.
_KEYS = ("factor", "original_max_position_embeddings", "partial_rotary_factor", "rope_theta", "rope_type", "type")


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


def rotary_of(config: Fields, head_dim: int, theta: float, *, ntk: bool = False) -> tuple[float, ...]:
    """The frequencies that ``rope_theta`` says, with ``rope_scaling`` or else transformers 5's ``rope_parameters``.

    Args:
        config: of the folder.
        head_dim: width of a head.
        theta: the base where none is said.
        ntk: whether the family's code has the scaling of that name.

    Raises:
        SpecError: they are scaled in a way that is not honoured; names file and key.
    """
    said = config.fields("rope_scaling", default={}) or config.fields("rope_parameters", default={})
    return scaled(said, head_dim, config.number("rope_theta", default=theta, minimum=1), ntk=ntk)


def scaled(said: Fields, head_dim: int, theta: float, *, ntk: bool = False) -> tuple[float, ...]:
    """The frequencies by one such set of settings. Arguments and errors are those of :func:`rotary_of`."""
    key = "rope_type" if "rope_type" in said else "type"
    kind = said.get(key, "default")
    if kind is None:
        raise said.wrong(key, "the name of a scaling; leave it out where there is none")
    expect(said, key, "default", "linear", *(("ntk",) if ntk else ()))
    expect(said, "partial_rotary_factor", 1, 1.0)
    for other in said:
        if other not in _KEYS:
            expect(said, other)
    theta = said.number("rope_theta", default=theta, minimum=1)
    factor = 1.0 if kind == "default" else said.number("factor", minimum=1)
    if kind == "ntk" and factor > 1:  # https://kexue.fm/archives/9706, with one factor for all positions
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
