"""A network's layers in 8 bits, one after the other: a layer that is stored is finished."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from nimbed._native import Model
from nimbed.quantization.native.apart import apart
from nimbed.quantization.native.observed import Observed
from nimbed.quantization.native.products import LayerRounder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np

    from nimbed._loading.unfinished import Unfinished
    from nimbed._types import Int32Array

    Arrays = dict[str, np.ndarray[Any, np.dtype[Any]]]
    Settings = dict[str, Any]

# Where the texts are is stored behind every so many layers: a build that goes on computes the others again.
_STORED = 4


def in_8_bits(
    arrays: Arrays,
    settings: Settings,
    sequences: Sequence[Int32Array],
    threads: int,
    pieces: Unfinished,
    progress: Callable[[int, int], None],
) -> Arrays:
    """The network's arrays, those of its layers in 8 bits.

    Args:
        arrays: in fp32, as the engine reads them.
        settings: of the engine.
        sequences: token ids of the texts that the weights are rounded for.
        threads: of the engine; they change no bit.
        pieces: the layers that are finished, and those that are finished here.
        progress: told how many of how many layers are done.
    """
    made, layers = dict(arrays), len(settings["layers"])
    observed: Observed | None = None
    for number in range(layers):
        if (layer := pieces.load(f"layer.{number}")) is None:
            if observed is None:
                observed = Observed(Model(settings, arrays), sequences, threads, pieces)
            layer = apart(partial(_rounded, arrays, settings, number, observed, threads))
            pieces.store(f"layer.{number}", layer)
            if number % _STORED == _STORED - 1:
                observed.store()
        made.update(layer)
        progress(number + 1, layers)
    return made


def _rounded(arrays: Arrays, settings: Settings, number: int, observed: Observed, threads: int) -> Arrays:
    return dict(LayerRounder(arrays, settings, number, observed.layer(number)).arrays(threads))
