"""An encoder's weights as the native engine reads them: int8, smoothed, padded, in panels of 64 output channels."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nimbed import _machine
from nimbed._encoder_shape import ACTIVATIONS, POOLINGS
from nimbed.quantization._bert import by_distance
from nimbed.quantization._rounding import rounded, scales_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nimbed._encoder_shape import EncoderShape
    from nimbed._types import Float32Array, Pooling

    Array = np.ndarray[Any, np.dtype[Any]]

_PANEL = 64
# Parameters are padded to whole cache lines of float32.
_LINE = 16


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What calibration saw of a product's inputs: ``X^T X``, ``[inputs, inputs]``, and ``max |x|``, ``[inputs]``."""

    moments: Float32Array
    largest: Float32Array

    def with_more(self, other: Seen) -> Seen:
        """What both saw."""
        return Seen(moments=self.moments + other.moments, largest=np.maximum(self.largest, other.largest))


@dataclass(frozen=True, kw_only=True)
class Widths:
    """Padded widths. Heads are grouped so that a group's queries fill a panel."""

    hidden: int
    head_dim: int
    group_heads: int
    groups: int
    intermediate: int

    @classmethod
    def of(cls, shape: EncoderShape) -> Widths:
        """Those of an encoder."""
        head_dim = _padded(shape.hidden // shape.heads, _LINE)
        fitting = max(1, _PANEL // head_dim)
        group_heads = max(n for n in range(1, fitting + 1) if shape.heads % n == 0)
        return cls(
            hidden=_padded(shape.hidden),
            head_dim=head_dim,
            group_heads=group_heads,
            groups=shape.heads // group_heads,
            intermediate=_padded(shape.intermediate),
        )

    @property
    def group(self) -> int:
        """Columns of a group's queries, keys or values."""
        return _padded(self.group_heads * self.head_dim)

    @property
    def context(self) -> int:
        """Columns of what attention gives."""
        return self.groups * self.group

    def places(self, shape: EncoderShape) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Where each component of all heads has its padded place, int64 ``[hidden]``."""
        head, component = np.divmod(np.arange(shape.hidden), shape.hidden // shape.heads)
        group, member = np.divmod(head, self.group_heads)
        places: np.ndarray[Any, np.dtype[np.int64]] = group * self.group + member * self.head_dim + component
        return places


def settings_of(shape: EncoderShape, *, pooling: Pooling, normalize: bool, tables: Mapping[str, int]) -> dict[str, Any]:
    """What the engine must know besides its arrays; ``tables`` has the rows of ``words``, ``positions``, ``types``."""
    widths = Widths.of(shape)
    return {
        "hidden_size": shape.hidden,
        "head_dim": widths.head_dim,
        "group_heads": widths.group_heads,
        "groups": widths.groups,
        "intermediate_width": widths.intermediate,
        "layers": shape.layers,
        "vocab_size": tables["words"],
        "positions": tables["positions"],
        "type_vocab_size": tables["types"],
        "padding_id": shape.padding,
        "relative": int(shape.relative),
        "layer_norm_eps": shape.epsilon,
        "activation": ACTIVATIONS[shape.activation],
        "pooling": POOLINGS[pooling],
        "normalize": int(normalize),
    }


def pack(weights: Mapping[str, Float32Array], shape: EncoderShape, seen: Mapping[str, Seen]) -> dict[str, Array]:
    """The engine's arrays by name; ``seen`` has what each layer's ``query``, ``output``, ``up`` and ``down`` read."""
    packer = _Packer(weights, shape, seen)
    arrays: dict[str, Array] = {name: packer.wide(weights[name], axis=1) for name in ("words", "positions", "types")}
    arrays.update(packer.norm("norm", readers=_attending(0)))
    if shape.relative:
        longest = len(weights["positions"]) - shape.padding - 1
        nearness = by_distance(weights["relative"], longest)
        arrays["relative"] = _placed(nearness, slice(0, 2 * longest), _padded(2 * longest + _LINE, _LINE), axis=1)
    with ThreadPoolExecutor(_machine.thread_plan().threads) as pool:
        for layer in pool.map(packer.layer, range(shape.layers)):
            arrays.update(layer)
    return arrays


def _attending(layer: int) -> tuple[str, ...]:
    """The products that read what comes into a layer."""
    return tuple(f"layers.{layer}.{part}" for part in ("query", "key", "value"))


class _Packer:
    """Rounds and places the products of one encoder."""

    def __init__(self, weights: Mapping[str, Float32Array], shape: EncoderShape, seen: Mapping[str, Seen]) -> None:
        self._weights = weights
        self._seen = seen
        self._shape = shape
        self._widths = Widths.of(shape)
        self._places = self._widths.places(shape)

    def wide(self, values: Float32Array, axis: int = 0) -> Float32Array:
        """Padded from the hidden size."""
        return _placed(values, slice(0, self._shape.hidden), self._widths.hidden, axis)

    def norm(self, name: str, readers: tuple[str, ...]) -> dict[str, Array]:
        """A LayerNorm's parameters, and the factors for the products that read it."""
        smooth = self._factors(readers) if readers else np.ones(self._shape.hidden, np.float32)
        values = {"gamma": self._weights[name + ".weight"], "beta": self._weights[name + ".bias"], "smooth": smooth}
        return {f"{name}.{part}": self.wide(value) for part, value in values.items()}

    def layer(self, number: int) -> dict[str, Array]:
        """All of one layer."""
        name, last = f"layers.{number}.", number + 1 == self._shape.layers
        return {
            **self.projection(name),
            **self.output(name),
            **self.norm(name + "attention_norm", readers=(name + "up",)),
            **self.feed_forward(name),
            **self.norm(name + "output_norm", readers=() if last else _attending(number + 1)),
        }

    def projection(self, layer: str) -> dict[str, Array]:
        """Queries, keys and values as one product: of each group of heads the queries, the keys, then the values."""
        parts = []
        for part in ("query", "key", "value"):
            # The scores' divisor goes into the queries.
            scale = (self._shape.hidden // self._shape.heads) ** -0.5 if part == "query" else 1.0
            parts.append(self._product(layer + part, scale, (layer + "query", layer + "key", layer + "value")))
        groups, group = self._widths.groups, self._widths.group
        joined = []
        for values in zip(*parts, strict=True):
            placed = [_placed(v, self._places, self._widths.context) for v in values]
            by_group = np.stack([v.reshape(groups, group, *v.shape[1:]) for v in placed], axis=1)
            joined.append(by_group.reshape(3 * groups * group, *placed[0].shape[1:]))
        rows, scales, bias = joined
        return _panels(layer + "projection", self.wide(rows, axis=1), scales, bias)

    def output(self, layer: str) -> dict[str, Array]:
        """The product behind attention."""
        rows, scales, bias = (self.wide(values) for values in self._product(layer + "output"))
        return _panels(layer + "output", _placed(rows, self._places, self._widths.context, 1), scales, bias)

    def feed_forward(self, layer: str) -> dict[str, Array]:
        """The two products of the feed-forward block."""
        inner = (slice(0, self._shape.intermediate), self._widths.intermediate)
        rows, scales, bias = (_placed(v, *inner) for v in self._product(layer + "up", readers=(layer + "up",)))
        up = _panels(layer + "up", self.wide(rows, axis=1), scales, bias)
        rows, scales, bias = (self.wide(values) for values in self._product(layer + "down"))
        return {**up, **_panels(layer + "down", _placed(rows, *inner, axis=1), scales, bias)}

    def _product(
        self, name: str, scale: float = 1.0, readers: tuple[str, ...] = ()
    ) -> tuple[Float32Array, Float32Array, Float32Array]:
        """int8 weights (as float32), scales and bias of a product whose inputs are smoothed for ``readers``."""
        values, bias = (self._weights[f"{name}.{part}"] * np.float32(scale) for part in ("weight", "bias"))
        moments = self._seen[_seen_as(name)].moments
        if readers:
            factors = self._factors(readers)
            values, moments = values / factors, moments * factors * factors[:, None]
        scales = scales_of(values)
        return rounded(values, scales, moments).astype(np.float32), scales, bias

    def _factors(self, readers: tuple[str, ...]) -> Float32Array:
        """SmoothQuant (Xiao et al. 2023, https://arxiv.org/abs/2211.10438) with alpha 0.5, ``[inputs]``."""
        largest = np.max([np.abs(self._weights[name + ".weight"]).max(axis=0) for name in readers], axis=0)
        ratio = np.maximum(largest, 1e-8) / np.maximum(self._seen[_seen_as(readers[0])].largest, 1e-8)
        factors: Float32Array = np.sqrt(ratio).astype(np.float32)
        return factors


def _seen_as(name: str) -> str:
    """Queries, keys and values have the same inputs."""
    layer, _, part = name.rpartition(".")
    return f"{layer}.query" if part in {"key", "value"} else name


def _panels(name: str, rows: Float32Array, scales: Float32Array, bias: Float32Array) -> dict[str, Array]:
    outputs, inputs = rows.shape
    panels = rows.astype(np.int8).reshape(outputs // _PANEL, _PANEL, inputs // 4, 4).transpose(0, 2, 1, 3)
    return {
        f"{name}.weights": np.ascontiguousarray(panels),
        f"{name}.scale": scales,
        f"{name}.sum": scales * rows.sum(axis=1, dtype=np.float64).astype(np.float32),
        f"{name}.bias": bias,
    }


def _padded(size: int, step: int = _PANEL) -> int:
    return -(-size // step) * step


def _placed(values: Float32Array, places: Any, size: int, axis: int = 0) -> Float32Array:  # noqa: ANN401 (an index)
    """The values at their places on an axis of ``size``, zeros elsewhere."""
    shape = list(values.shape)
    shape[axis] = size
    made = np.zeros(shape, np.float32)
    made[(slice(None),) * axis + (places,)] = values
    return made
