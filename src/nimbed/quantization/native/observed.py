"""What the inputs of a layer's products are like, on real texts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np

from nimbed.quantization.native.bert import embedded, through_layer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from concurrent.futures import Executor

    from nimbed._model_folder.network import EncoderShape
    from nimbed._types import Float32Array, Int32Array

# As many parts whatever the machine, so that the sums are the same everywhere.
_PARTS = 8


@dataclass(frozen=True, kw_only=True)
class Seen:
    """Of a product's inputs: ``X^T X``, ``[inputs, inputs]``, and ``max |x|``, ``[inputs]``."""

    moments: Float32Array
    largest: Float32Array

    def with_more(self, other: Seen) -> Seen:
        """What both saw."""
        return Seen(moments=self.moments + other.moments, largest=np.maximum(self.largest, other.largest))


def layer_by_layer(
    weights: Mapping[str, Float32Array], shape: EncoderShape, sequences: Sequence[Int32Array], pool: Executor
) -> Iterator[dict[str, Seen]]:
    """For each layer the inputs of its ``query`` (which ``key`` and ``value`` share), ``output``, ``up``, ``down``.

    One layer's at a time: the moments of a large network together would take gigabytes.
    """
    parts = [[embedded(weights, shape, s) for s in sequences[i::_PARTS]] for i in range(min(_PARTS, len(sequences)))]

    def observe(number: int, part: list[Float32Array]) -> dict[str, Seen]:
        """Takes the part's texts through the layer, in place."""
        found: dict[str, Seen] = {}

        def watch(name: str, x: Float32Array) -> None:
            if name not in {"key", "value"}:
                now = Seen(moments=x.T @ x, largest=np.abs(x).max(axis=0))
                found[name] = found[name].with_more(now) if name in found else now

        part[:] = [through_layer(weights, shape, number, x, watch) for x in part]
        return found

    for number in range(shape.layers):
        seen = pool.map(observe, [number] * len(parts), parts)
        yield reduce(lambda a, b: {name: a[name].with_more(b[name]) for name in a}, seen)
