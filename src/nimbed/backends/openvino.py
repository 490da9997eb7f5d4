"""OpenVINO on the CPU: int8 and fp32 artefacts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import openvino as ov

from nimbed import _machine
from nimbed._types import ShapePolicy, Tuning
from nimbed.errors import BackendError, OutOfMemoryError

if TYPE_CHECKING:
    from pathlib import Path

    from nimbed._types import Float32Array, OpenRequest, TokenBatch


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
            network, self.reasons = _network(path, request)
            self._compiled = ov.Core().compile_model(network, "CPU", properties)
        except RuntimeError as err:
            raise BackendError(f"OpenVINO cannot open {path}: {err}") from err
        self._names = [port.get_any_name() for port in self._compiled.inputs]
        tuning = request.tuning or default_tuning(request)
        self.shapes = ShapePolicy.bucketed(
            max_length=request.spec.max_length,
            token_budget=tuning.tokens_per_thread * request.threads,
            positions=request.spec.positions,
            least_alone=tuning.least_alone,
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


def default_tuning(request: OpenRequest) -> Tuning:
    """Where products are fast, a change of shape costs a lone query more than padding to 32 tokens; else less."""
    int8 = request.precision == "int8" and _machine.cpu().fast_int8
    return Tuning(least_alone=32 if int8 else 16)


def _network(path: Path, request: OpenRequest) -> tuple[ov.Model, dict[str, str]]:
    """The artefact's graph as this CPU shall run it, and the reason where that is not as it stands."""
    network, cpu = ov.Core().read_model(path), _machine.cpu()
    if request.precision != "int8" or cpu.fast_int8:
        return network, {}
    _keep_activations(network)
    # vpmaddubsw adds pairs of u8 x s8 products in 16 bits and saturates: 1-cos 36e-4 where VNNI has 9e-4.
    reason = f"int8 weights, fp32 activations: with {cpu.instruction_set} instructions int8 sums would overflow"
    return network, {"arithmetic": reason}


def _keep_activations(network: ov.Model) -> None:
    """Take out the rounding of activations, in place: what is left is weights stored in int8, computed in fp32."""
    for node in network.get_ordered_ops():
        if node.get_type_name() == "FakeQuantize" and node.input_value(0).get_node().get_type_name() != "Constant":
            for reader in node.output(0).get_target_inputs():
                reader.replace_source_output(node.input_value(0))
    network.validate_nodes_and_infer_types()


class OpenVinoSession:
    """One inference request."""

    def __init__(self, request: Any, names: list[str], shapes: ShapePolicy) -> None:  # noqa: ANN401
        self._request = request
        self._names = names
        self._shapes = shapes

    def run(self, batch: TokenBatch) -> Float32Array:
        """Sentence vectors, float32 ``[B, dim]``, or scores ``[B, 1]``."""
        length = self._shapes.pad_to(int(batch.lengths.max()), rows=len(batch))
        inputs = batch.padded(length)
        try:
            self._request.infer({name: inputs[name] for name in self._names}, share_inputs=True)
        except RuntimeError as err:
            if "alloc" in str(err).lower():
                raise OutOfMemoryError(f"no memory for {len(batch)} x {length} tokens: {err}") from err
            raise BackendError(f"OpenVINO failed on {len(batch)} x {length} tokens: {err}") from err
        return np.array(self._request.get_output_tensor(0).data, np.float32)
