"""The residual stream in another basis, in which no channel is much larger than the others, so that 8 bits hold all.

RMSNorm gives the same length in every orthogonal basis. So the products that write the stream can write it in another
one, those that read it read it there, and a dense layer behind the pooling turns the vector back: in exact arithmetic
the network computes what it did (Ashkboos et al. 2024, QuaRot, https://arxiv.org/abs/2404.00456). Each channel of a
Hadamard matrix's basis has its part of all others, so a token with massive activations in two of them has none there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nimbed.backends.native_layout import panels

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nimbed._types import Float32Array

    Array = np.ndarray[Any, np.dtype[Any]]
    Arrays = dict[str, Array]
    Settings = dict[str, Any]

_TABLES = ("words", "positions", "types")
_NORMS = ("attention_norm", "output_norm")
# Rows that are turned at once, in float64.
_ROWS = 4096


def can_be_rotated(settings: Mapping[str, Any]) -> bool:
    """Whether a network's norms and pooling allow it.

    A norm that takes the mean away (LayerNorm) knows one direction of the stream; one whose result becomes the stream
    (post-norm) or is added to it (a branch's own) has a factor for each channel of it; and so has the largest number.
    """
    steps = [settings["embedding_norm"], *(layer[name] for layer in settings["layers"] for name in _NORMS)]
    plain = all(step["rms"] and step["after"] is None for step in steps) and all(step["keeps"] for step in steps[:-1])
    return plain and settings["pooling"] != "max"


def rotated(arrays: Mapping[str, Array], settings: Settings) -> tuple[Arrays, Settings]:
    """The same network with its stream turned: its arrays in fp32, and its settings.

    Args:
        arrays: in fp32, as the engine reads them.
        settings: of a network that can be rotated.
    """
    size, layers = settings["size"], len(settings["layers"])
    made = {**arrays, **{name: turned(arrays[name], size) for name in _TABLES if name in arrays}}
    for number in range(layers):
        made |= _layer(arrays, number, size)
    last = f"layers.{layers - 1}.output_norm.gamma"
    gamma, made[last] = arrays[last], _ones(arrays[last], size)
    if settings["head"]:
        made["head.0.weights"] = _reading(arrays["head.0.weights"], gamma, size)
        return made, settings
    back = turned(np.diag(gamma), size)  # and the factors of the last norm
    made |= {"head.0.weights": panels(back), "head.0.bias": np.zeros_like(gamma)}
    return made, {**settings, "head": [{"inputs": size, "outputs": size, "activation": "identity", "norm": None}]}


def _layer(arrays: Mapping[str, Array], number: int, size: int) -> Arrays:
    """What a layer reads and writes in the other basis, and the norms before it, whose factors are in what reads."""
    name, made = f"layers.{number}", {}
    before = f"layers.{number - 1}.output_norm" if number else "embedding_norm"
    for product, norm in (("projection", before), ("up", f"{name}.attention_norm")):
        gamma = arrays[f"{norm}.gamma"]
        made[f"{name}.{product}.weights"] = _reading(arrays[f"{name}.{product}.weights"], gamma, size)
        made[f"{norm}.gamma"] = _ones(gamma, size)
    for product in ("output", "down"):
        weights = arrays[f"{name}.{product}.weights"]
        by_input = np.moveaxis(weights, 1, 0).reshape(weights.shape[1], -1)
        made[f"{name}.{product}.weights"] = panels(turned(by_input, size).T)
        made[f"{name}.{product}.bias"] = turned(arrays[f"{name}.{product}.bias"], size)
    return made


def _reading(weights: Array, gamma: Array, size: int) -> Float32Array:
    """Panels ``[panels, inputs, 64]`` for inputs that are turned, and not yet multiplied by their norm's factors."""
    return np.ascontiguousarray(np.moveaxis(turned(np.moveaxis(weights, 1, 2) * gamma, size), 2, 1))


def _ones(gamma: Array, size: int) -> Float32Array:
    made = np.zeros_like(gamma)
    made[:size] = 1
    return made


def turned(rows: Array, size: int) -> Float32Array:
    """Rows ``[..., size and padding]`` in the other basis: with some signs changed, times a Hadamard matrix.

    Where the size is no power of two, those of the largest that divides it, with a reflection across the parts. No sum
    is left to a library's order, so that the bits are the same everywhere.
    """
    flat = rows.reshape(-1, rows.shape[-1])
    made = np.zeros(flat.shape, np.float32)
    for start in range(0, len(flat), _ROWS):
        made[start : start + _ROWS, :size] = _turned(flat[start : start + _ROWS, :size].astype(np.float64))
    shaped: Float32Array = made.reshape(rows.shape)
    return shaped


def _turned(rows: Array) -> Array:
    count, size = rows.shape
    power = size & -size  # the largest that divides it
    x: Array = (rows * _signs(size)).reshape(count, size // power, power)
    x -= sum(x[:, part : part + 1] for part in range(x.shape[1])) * (2 / x.shape[1])  # Householder's reflection
    for step in (1 << bit for bit in range(power.bit_length() - 1)):
        first, second = np.moveaxis(x.reshape(count, -1, 2, step), 2, 0)
        x = np.stack([first + second, first - second], axis=2)
    made: Array = x.reshape(count, size) / np.sqrt(power)
    return made


def _signs(size: int) -> Array:
    """1 and -1 that are like no row of a Hadamard matrix: a bent function's (Rothaus 1976).

    Without them what all channels have in common would be gathered in one.
    """
    number = np.arange(size)
    pairs = number & (number >> 1) & 0x55555555
    return np.array([1 - 2 * (int(bits).bit_count() % 2) for bits in pairs])
