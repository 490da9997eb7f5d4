"""What the inputs of a layer's products are like, on real texts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nimbed._native import Trace
from nimbed._types import TokenBatch
from nimbed.quantization.native.rounding import add_second_moments

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nimbed._types import Float32Array, Int32Array

    Float64Array = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, kw_only=True)
class Seen:
    """Of a product's inputs: the lower half of ``X^T X``, ``[inputs, inputs]``, and ``max |x|``, ``[inputs]``."""

    moments: Float64Array
    largest: Float32Array


def layer_by_layer(
    model: Any,  # noqa: ANN401 (the extension's class)
    layers: int,
    sequences: Sequence[Int32Array],
    threads: int,
) -> Iterator[dict[str, Seen]]:
    """For each layer of a model in fp32 what its products read, by their names in the engine.

    One layer's at a time: the moments of a large network together would take gigabytes.
    """
    batch = TokenBatch.from_sequences(sequences)
    trace = Trace(model, batch.ids, batch.offsets, batch.type_ids, threads)
    for _ in range(layers):
        yield {name: _seen(x, threads) for name, x in trace.next().items()}


def _seen(x: Float32Array, threads: int) -> Seen:
    moments = np.zeros((x.shape[1], x.shape[1]))
    add_second_moments(x, moments, threads)
    return Seen(moments=moments, largest=np.maximum(x.max(axis=0), -x.min(axis=0)))
