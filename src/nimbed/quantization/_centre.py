"""int8's mean error, taken out of the vectors.

Rounding moves the vectors of all texts by much the same amount. What it moves them by on the calibration texts is
subtracted after pooling, where it costs nothing: bias correction (Nagel et al. 2019, sec. 4.2) for the whole network.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from nimbed.quantization._head import append_head
from nimbed.quantization._measure import vectors_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import openvino as ov

    from nimbed._types import Float32Array, Int32Array, ModelSpec

# Poolings in which each token has its part: a long text then tells more of the mean than a short one.
_OF_ALL_TOKENS = frozenset({"mean", "weightedmean"})


def mean_error(
    exact: ov.Model, quantised: ov.Model, spec: ModelSpec, folder: Path, sequences: Sequence[Int32Array]
) -> Float32Array:
    """By how much pooled vectors fall short of the fp32 ones on average, float32 ``[hidden_size]``.

    Args:
        exact: the network in fp32.
        quantised: the same in int8.
        spec: of the model.
        folder: the model folder.
        sequences: token ids of the calibration texts.
    """
    bare = replace(spec, dense=(), normalize=False)
    pooled = [vectors_of(append_head(graph.clone(), bare, folder), sequences) for graph in (exact, quantised)]
    weights = np.array([len(s) if spec.pooling in _OF_ALL_TOKENS else 1 for s in sequences], np.float64)
    error: Float32Array = np.average(pooled[0] - pooled[1], axis=0, weights=weights).astype(np.float32)
    return error
