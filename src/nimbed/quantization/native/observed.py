"""What the inputs of a layer's products are like, on real texts."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nimbed.quantization.native.bert import embedded, through_layer
from nimbed.quantization.native.rounding import add_second_moments

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from nimbed._model_folder.network import EncoderShape
    from nimbed._types import Float32Array, Int32Array
    from nimbed.quantization.native.rounding import Float64Array

# As many parts whatever the machine, so that the sums are the same everywhere.
_PARTS = 8


@dataclass(frozen=True, kw_only=True)
class Seen:
    """Of a product's inputs: ``X^T X``, ``[inputs, inputs]``, its lower triangle, and ``max |x|``, ``[inputs]``."""

    moments: Float64Array
    largest: Float32Array

    @classmethod
    def nothing(cls, inputs: int) -> Seen:
        """Before any input was seen."""
        return cls(moments=np.zeros((inputs, inputs)), largest=np.zeros(inputs, np.float32))

    def add(self, x: Float32Array, threads: int) -> None:
        """What more inputs ``[rows, inputs]`` show."""
        add_second_moments(x, self.moments, threads)
        np.maximum(self.largest, np.abs(x).max(axis=0), out=self.largest)


def layer_by_layer(
    weights: Mapping[str, Float32Array], shape: EncoderShape, sequences: Sequence[Int32Array], threads: int
) -> Iterator[dict[str, Seen]]:
    """For each layer the inputs of its ``query`` (which ``key`` and ``value`` share), ``output``, ``up``, ``down``.

    One layer's at a time: the moments of a large network together would take gigabytes.
    """
    parts = [[embedded(weights, shape, s) for s in sequences[i::_PARTS]] for i in range(min(_PARTS, len(sequences)))]

    def observe(number: int, part: list[Float32Array]) -> dict[str, Float32Array]:
        """Takes the part's texts through the layer, in place; gives the inputs ``[tokens, inputs]`` of its products."""
        found: dict[str, list[Float32Array]] = {}

        def watch(name: str, x: Float32Array) -> None:
            if name not in {"key", "value"}:
                found.setdefault(name, []).append(x)

        part[:] = [through_layer(weights, shape, number, x, watch) for x in part]
        return {name: np.concatenate(rows) for name, rows in found.items()}

    with ThreadPoolExecutor(threads) as pool:
        for number in range(shape.layers):
            seen: dict[str, Seen] = {}
            for inputs in pool.map(observe, [number] * len(parts), parts):
                for name, x in inputs.items():
                    seen.setdefault(name, Seen.nothing(x.shape[1])).add(x, threads)
            yield seen
