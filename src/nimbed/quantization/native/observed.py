"""What the inputs of a layer's products are like, on real texts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nimbed._native import Trace
from nimbed._types import TokenBatch
from nimbed.quantization.native.rounding import add_second_moments

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nimbed._loading.unfinished import Unfinished
    from nimbed._types import Float32Array, Int32Array

    Float64Array = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, kw_only=True)
class Seen:
    """Of a product's inputs: the lower half of ``X^T X``, ``[inputs, inputs]``, and ``max |x|``, ``[inputs]``."""

    moments: Float64Array
    largest: Float32Array


class Observed:
    """Texts on their way through a model in fp32, a layer at a time.

    One layer's moments at a time: those of a large network together would take gigabytes. Where the texts are is kept
    among the build's pieces, and a build that goes on takes them up there.
    """

    def __init__(
        self,
        model: Any,  # noqa: ANN401 (the extension's class)
        sequences: Sequence[Int32Array],
        threads: int,
        pieces: Unfinished,
    ) -> None:
        batch = TokenBatch.from_sequences(sequences)
        self._trace = Trace(model, batch.ids, batch.offsets, batch.type_ids, threads)
        self._threads = threads
        self._pieces = pieces
        self._sought = False

    def layer(self, number: int) -> dict[str, Seen]:
        """What a layer's products read, by their names in the engine; layers are asked for in order."""
        if not self._sought:
            self._resume(number)
        while self._trace.layer < number:
            self._trace.next()
        return {name: _seen(x, self._threads) for name, x in self._trace.next().items()}

    def store(self) -> None:
        """Keep where the texts are: before the layer behind the last one that was asked for."""
        self._pieces.store("texts", {"layer": np.array([self._trace.layer]), **self._trace.state()})

    def _resume(self, number: int) -> None:
        self._sought = True
        kept = self._pieces.load("texts")
        if kept is not None and kept["layer"][0] <= number:
            self._trace.resume(int(kept["layer"][0]), kept["hidden"], kept["normed"])


def _seen(x: Float32Array, threads: int) -> Seen:
    moments = np.zeros((x.shape[1], x.shape[1]))
    add_second_moments(x, moments, threads)
    return Seen(moments=moments, largest=np.maximum(x.max(axis=0), -x.min(axis=0)))
