"""OpenVINO graphs computed as they stand, whatever CPU the build runs on."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from nimbed.backends.openvino_api import ov
from nimbed.quantization.closeness import finite, in_batches

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nimbed._types import Float32Array, Int32Array, TokenBatch

# The rounding of a quantized graph computed as it stands, in fp32: what int8 kernels give on CPUs with VNNI or AMX.
# The kernels for other CPUs saturate, and would show errors that no user gets.
# Nor are activations rounded where the graph does not say so, which OpenVINO does beside weights stored in int8.
_EXACT = {"INFERENCE_PRECISION_HINT": "f32", "LP_TRANSFORMS_MODE": "NO", "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0"}


def vectors_of(encoder: ov.Model, sequences: Sequence[Int32Array]) -> Float32Array:
    """Sentence vectors ``[n, dim]`` or scores ``[n, 1]`` of a graph with its head.

    Raises:
        BuildError: they are not finite.
    """
    return finite(run(ov.Core().compile_model(encoder, "CPU", _EXACT), sequences))


def run(compiled: ov.CompiledModel, sequences: Sequence[Int32Array]) -> Float32Array:
    """Outputs ``[n, dim]`` in order, computed in batches of like length: each new shape costs a compilation."""
    request, names = compiled.create_infer_request(), [port.get_any_name() for port in compiled.inputs]

    def outputs(batch: TokenBatch) -> Float32Array:
        inputs = batch.padded(int(batch.lengths.max()))
        request.infer({name: inputs[name] for name in names})
        return np.array(request.get_output_tensor(0).data, np.float32)

    return in_batches(sequences, outputs)


@contextmanager
def exact_arithmetic() -> Iterator[None]:
    """Let NNCF, which compiles graphs with settings of its own, compute as :func:`vectors_of` does.

    Without it a build on a CPU without VNNI corrects biases, and ranks layers, by kernels that saturate. NNCF has no
    setting for it, so OpenVINO's own call is wrapped, in the build process alone.
    """
    real = ov.Core.compile_model

    def compile_model(core: ov.Core, model: ov.Model, device_name: str, config: object = None) -> ov.CompiledModel:  # noqa: ARG001
        return real(core, model, device_name, _EXACT)

    ov.Core.compile_model = compile_model
    try:
        yield
    finally:
        ov.Core.compile_model = real
