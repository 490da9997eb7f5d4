"""An encoder's weights as the native engine reads them: int8, smoothed, padded, in panels of 64 output channels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nimbed import _machine
from nimbed._model_folder.network import ACTIVATIONS, POOLINGS
from nimbed.errors import BuildError
from nimbed.quantization.native.bert import by_distance
from nimbed.quantization.native.observed import layer_by_layer
from nimbed.quantization.native.rounding import rounded, scales_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from nimbed._model_folder.network import EncoderShape
    from nimbed._types import Float32Array, Int32Array, Pooling
    from nimbed.quantization.native.observed import Seen

    Array = np.ndarray[Any, np.dtype[Any]]
    Int64Array = np.ndarray[Any, np.dtype[np.int64]]

_PANEL = 64
# Inputs of the products behind attention that share a scale. GELU and attention give some that are much larger than the
# others, and no LayerNorm is there to be smoothed.
_GROUP = 384
# The products that read what comes into a layer.
_ATTENDING = ("query", "key", "value")
# Parameters are padded to whole cache lines of float32.
_LINE = 16


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

    def places(self, shape: EncoderShape) -> Int64Array:
        """Where each component of all heads has its padded place, int64 ``[hidden]``."""
        head, component = np.divmod(np.arange(shape.hidden), shape.hidden // shape.heads)
        group, member = np.divmod(head, self.group_heads)
        places: Int64Array = group * self.group + member * self.head_dim + component
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


def pack(
    weights: Mapping[str, Float32Array],
    shape: EncoderShape,
    sequences: Sequence[Int32Array],
    progress: Callable[[int, int], None] = lambda *_: None,
) -> dict[str, Array]:
    """The engine's arrays by name, rounded for what the texts of these token ids show.

    ``progress`` is told how many of how many layers are done.
    """
    threads = _machine.thread_plan().threads
    packer = _Packer(weights, shape, threads)
    arrays: dict[str, Array] = {name: packer.wide(weights[name], axis=1) for name in ("words", "positions", "types")}
    if shape.relative:
        longest = len(weights["positions"]) - shape.padding - 1
        nearness = by_distance(weights["relative"], longest)
        arrays["relative"] = _placed(nearness, slice(0, 2 * longest), _padded(2 * longest + _LINE, _LINE), axis=1)
    before = "norm"  # the LayerNorm that a layer's attention reads
    for number, seen in enumerate(layer_by_layer(weights, shape, sequences, threads)):
        layer = _Layer(packer, f"layers.{number}.", seen)
        for make in (layer.projection, layer.output, layer.up, layer.down):
            arrays.update(make())
        arrays.update(packer.norm(before, layer.factors("value")))
        arrays.update(packer.norm(f"{layer.name}attention_norm", layer.factors("up")))
        before = f"{layer.name}output_norm"
        progress(number + 1, shape.layers)
    return arrays | packer.norm(before, np.ones(shape.hidden, np.float32))


class _Packer:
    """Places what it is given where the kernels want it."""

    def __init__(self, weights: Mapping[str, Float32Array], shape: EncoderShape, threads: int) -> None:
        self.weights = weights
        self.shape = shape
        self.threads = threads
        self.widths = Widths.of(shape)
        self.places = self.widths.places(shape)

    def wide(self, values: Float32Array, axis: int = 0) -> Float32Array:
        """Padded from the hidden size."""
        return _placed(values, slice(0, self.shape.hidden), self.widths.hidden, axis)

    def inner(self, values: Float32Array, axis: int = 0) -> Float32Array:
        """Padded from the width between the feed-forward products."""
        return _placed(values, slice(0, self.shape.intermediate), self.widths.intermediate, axis)

    def by_head(self, values: Float32Array, axis: int = 0) -> Float32Array:
        """Heads apart, in their groups."""
        return _placed(values, self.places, self.widths.context, axis)

    def norm(self, name: str, smooth: Float32Array) -> dict[str, Array]:
        """A LayerNorm's parameters, and the factors for the products that read it."""
        values = {"gamma": self.weights[name + ".weight"], "beta": self.weights[name + ".bias"], "smooth": smooth}
        return {f"{name}.{part}": self.wide(value) for part, value in values.items()}


class _Layer:
    """Rounds the products of one layer, for the inputs that were seen."""

    def __init__(self, packer: _Packer, name: str, seen: Mapping[str, Seen]) -> None:
        self.name = name
        self._packer = packer
        self._seen = {**seen, "value": seen["query"]}

    def projection(self) -> dict[str, Array]:
        """Queries, keys and values as one product: of each group of heads the queries, the keys, then the values."""
        rows, steps, bias = (self._by_group(values) for values in self._product(*_ATTENDING, smooth_for="value"))
        return _panels(f"{self.name}projection", self._packer.wide(rows, axis=1), steps, bias)

    def output(self) -> dict[str, Array]:
        """The product behind attention."""
        made = self._product("output", groups=self._packer.places // _GROUP)
        rows, steps, bias = (self._packer.wide(values) for values in made)
        return _panels(f"{self.name}output", self._packer.by_head(rows, axis=1), steps, bias)

    def up(self) -> dict[str, Array]:
        """The wide product of the feed-forward block."""
        rows, steps, bias = (self._packer.inner(values) for values in self._product("up", smooth_for="up"))
        return _panels(f"{self.name}up", self._packer.wide(rows, axis=1), steps, bias)

    def down(self) -> dict[str, Array]:
        """The product that follows it."""
        made = self._product("down", groups=np.arange(self._packer.shape.intermediate) // _GROUP)
        rows, steps, bias = (self._packer.wide(values) for values in made)
        return _panels(f"{self.name}down", self._packer.inner(rows, axis=1), steps, bias)

    def factors(self, reader: str) -> Float32Array:
        """SmoothQuant (Xiao et al. 2023, https://arxiv.org/abs/2211.10438) with alpha 0.5, ``[inputs]``.

        The values' weights alone say how much of an input's rounding reaches the vector: what it does to queries and
        keys goes through softmax, which takes most of it away.
        """
        largest = np.abs(self._weights(reader, "weight")).max(axis=0)
        ratio = np.maximum(largest, 1e-8) / np.maximum(self._seen[reader].largest, 1e-8)
        factors: Float32Array = np.sqrt(ratio).astype(np.float32)
        return factors

    def _product(
        self, *parts: str, smooth_for: str | None = None, groups: Int64Array | None = None
    ) -> tuple[Float32Array, Float32Array, Float32Array]:
        """int8 weights (as float32), their steps ``[outputs, groups]``, and the bias.

        Of one product or of several that read the same; their inputs are smoothed for a reader, or are in ``groups``,
        ``[inputs]``.
        """
        values, bias = (np.concatenate([self._weights(part, kind) for part in parts]) for kind in ("weight", "bias"))
        moments = self._seen[parts[0]].moments
        if smooth_for is not None:
            factors = self.factors(smooth_for)
            values, moments = values / factors, moments * factors * factors[:, None]
        if groups is None:
            groups = np.zeros(values.shape[1], np.int64)
        steps = scales_of(values, groups)
        try:
            return rounded(values, steps, groups, moments, self._packer.threads).astype(np.float32), steps, bias
        except ValueError as err:
            raise BuildError(
                f"{self.name}{parts[0]}: its inputs have no second moments that weights could be rounded for ({err}): "
                "the weights before it are damaged, or overflow float32"
            ) from err

    def _weights(self, part: str, kind: str) -> Float32Array:
        values = self._packer.weights[f"{self.name}{part}.{kind}"]
        divisor = self._packer.shape.hidden // self._packer.shape.heads  # its root is the scores'
        return values * np.float32(divisor**-0.5) if part == "query" else values

    def _by_group(self, values: Float32Array) -> Float32Array:
        """Those of queries, keys and values, a group's one behind the other."""
        widths = self._packer.widths
        placed = (self._packer.by_head(some) for some in np.split(values, len(_ATTENDING)))
        by_group = np.stack([some.reshape(widths.groups, widths.group, *some.shape[1:]) for some in placed], axis=1)
        return by_group.reshape(3 * widths.context, *by_group.shape[3:])


def _panels(name: str, rows: Float32Array, steps: Float32Array, bias: Float32Array) -> dict[str, Array]:
    """Rows ``[outputs, inputs]`` of int8 and their steps ``[outputs, groups]``, as the kernels read them."""
    outputs, inputs = rows.shape
    starts = np.arange(steps.shape[1]) * _GROUP
    sums = steps * np.add.reduceat(rows, starts, axis=1, dtype=np.float64).astype(np.float32)

    def by_panel(values: Array) -> Array:
        return np.ascontiguousarray(values.reshape(outputs // _PANEL, _PANEL, *values.shape[1:]).swapaxes(1, 2))

    return {
        f"{name}.weights": by_panel(rows.astype(np.int8).reshape(outputs, inputs // 4, 4)),
        f"{name}.scale": by_panel(steps),
        f"{name}.sum": by_panel(sums),
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
