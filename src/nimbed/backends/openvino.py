"""OpenVINO on the CPU: int8 and fp32 artefacts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import openvino as ov

from nimbed._types import ShapePolicy
from nimbed.errors import BackendError, OutOfMemoryError

if TYPE_CHECKING:
    from nimbed._types import Float32Array, OpenRequest, TokenBatch

# 512 tokens a thread keep a layer's activations near the L2 cache; larger batches gain nothing (measured).
_TOKENS_PER_THREAD = 512


def open_backend(request: OpenRequest) -> OpenVinoBackend:
    """Compile an artefact's ``model.xml`` for the CPU."""
    return OpenVinoBackend(request)


class OpenVinoBackend:
    """A compiled graph with static latency settings; each (rows, length) that it meets is compiled once more."""

    def __init__(self, request: OpenRequest) -> None:
        path = request.folder / "model.xml"
        properties = {
            "INFERENCE_NUM_THREADS": request.threads,
            "INFERENCE_PRECISION_HINT": "f32",  # else machines with AMX run fp32 in bf16
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
        }
        try:
            self._compiled = ov.Core().compile_model(path, "CPU", properties)
        except RuntimeError as err:
            raise BackendError(f"OpenVINO cannot open {path}: {err}") from err
        self._names = [port.get_any_name() for port in self._compiled.inputs]
        self.shapes = ShapePolicy.bucketed(
            max_length=request.spec.max_length,
            token_budget=_TOKENS_PER_THREAD * request.threads,
            positions=request.spec.positions,
        )

    @property
    def version(self) -> str:
        """OpenVINO's build."""
        return f"openvino {ov.get_version()}"

    def session(self) -> OpenVinoSession:
        """A new inference request."""
        return OpenVinoSession(self._compiled.create_infer_request(), self._names, self.shapes)

    def close(self) -> None:
        """Drop the compiled graph."""
        del self._compiled


class OpenVinoSession:
    """One inference request."""

    def __init__(self, request: Any, names: list[str], shapes: ShapePolicy) -> None:  # noqa: ANN401
        self._request = request
        self._names = names
        self._shapes = shapes

    def run(self, batch: TokenBatch) -> Float32Array:
        """Sentence vectors, float32 ``[B, dim]``."""
        length = self._shapes.pad_to(int(batch.lengths.max()), rows=len(batch))
        inputs = batch.padded(length)
        try:
            self._request.infer({name: inputs[name] for name in self._names}, share_inputs=True)
        except RuntimeError as err:
            if "alloc" in str(err).lower():
                raise OutOfMemoryError(f"no memory for {len(batch)} x {length} tokens: {err}") from err
            raise BackendError(f"OpenVINO failed on {len(batch)} x {length} tokens: {err}") from err
        return np.array(self._request.get_output_tensor(0).data, np.float32)
