"""The native engine's side of the build: numpy and the engine itself, no torch, no OpenVINO, no NNCF."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nimbed import _machine
from nimbed._loading.progress import counted
from nimbed._model_folder.network import ENCODER_FILE, read_shape
from nimbed._model_folder.safetensors import write_tensors
from nimbed.backends import open_backend
from nimbed.backends.protocol import OpenRequest
from nimbed.quantization.build_result import Built, judged, measured_by
from nimbed.quantization.closeness import finite, in_batches
from nimbed.quantization.native.bert import forward, pooled, read_weights
from nimbed.quantization.native.packed import pack, settings_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from nimbed._loading.build import BuildRequest
    from nimbed._loading.progress import Progress
    from nimbed._model_folder.network import EncoderShape
    from nimbed._types import Float32Array, Int32Array, ModelSpec
    from nimbed.quantization.calibration import CalibrationSet

# Second moments settle long before all texts are seen, and cost more than the forward pass.
_SEEN_TOKENS = 8192


def make(folder: Path, request: BuildRequest, calibration: CalibrationSet, progress: Progress) -> Built:
    """Round the weights for what the calibration texts show, and measure against fp32."""
    source = Path(request.folder)
    shape = read_shape(source, request.spec)
    weights = read_weights(source / request.graph, shape)
    progress("quantizing", 0, shape.layers)
    arrays = pack(weights, shape, sample(calibration.calibrate), partial(progress, "quantizing"))
    settings = settings_of(
        shape,
        pooling=request.spec.pooling,
        normalize=request.spec.normalize,
        tables={name: len(weights[name]) for name in ("words", "positions", "types")},
    )
    write_tensors(folder / ENCODER_FILE, arrays, {"nimbed": json.dumps(settings)})
    progress("measuring against fp32")
    outputs = _outputs(folder, request)
    measuring = partial(progress, "measuring against fp32")
    reference = exact(weights, shape, request.spec, calibration.held_out, measuring)
    measured = measured_by(request, reference, outputs(calibration.held_out))
    record = judged(request, measured)
    progress("saving")
    return Built(outputs=outputs, calibration=calibration.record, quality=record, forced=bool(record["missed"]))


def sample(sequences: Sequence[Int32Array]) -> Sequence[Int32Array]:
    """Every n-th sequence, so that the tokens are about as many as are worth seeing."""
    return sequences[:: max(1, sum(map(len, sequences)) // _SEEN_TOKENS)]


def exact(
    weights: Mapping[str, Float32Array],
    shape: EncoderShape,
    spec: ModelSpec,
    sequences: Sequence[Int32Array],
    progress: Callable[[int, int], None],
) -> Float32Array:
    """fp32 vectors ``[n, hidden]``. ``progress`` is told how many of how many tokens are done."""

    def vector(sequence: Int32Array) -> Float32Array:
        return pooled(forward(weights, shape, sequence), spec.pooling, normalize=spec.normalize)

    with ThreadPoolExecutor(_machine.thread_plan().threads) as pool:
        return finite(np.stack(list(counted(pool.map(vector, sequences), list(map(len, sequences)), progress))))


def _outputs(folder: Path, request: BuildRequest) -> Callable[[Sequence[Int32Array]], Float32Array]:
    threads = _machine.thread_plan().threads
    opened = open_backend(
        "native", OpenRequest(folder=folder, spec=request.spec, precision=request.precision, threads=threads)
    )
    session = opened.session()
    return lambda sequences: finite(in_batches(sequences, session.run))
