"""OpenVINO on the CPU: int8 and fp32 artefacts."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np

from nimbed import _machine
from nimbed.backends.openvino_api import ov
from nimbed.backends.protocol import Bulk
from nimbed.backends.shapes import ShapePolicy, Tuning
from nimbed.errors import BackendError, OutOfMemoryError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nimbed._types import Float32Array, TokenBatch
    from nimbed.backends.protocol import OpenRequest


def open_backend(request: OpenRequest) -> OpenVinoBackend:
    """Compile an artefact's ``model.xml`` for the CPU."""
    return OpenVinoBackend(request)


class OpenVinoBackend:
    """A graph compiled twice: for one text on all threads, and, with the first documents, for a text on each thread.

    Threads that compute a batch together wait for each other after every layer; those that have a batch each do not.
    Each (rows, length) that a compiled graph meets is compiled once more.
    """

    def __init__(self, request: OpenRequest) -> None:
        self._path = request.folder / "model.xml"
        self._request = request
        self._lock = threading.Lock()
        self._for_bulk: ov.CompiledModel | None = None
        self._tuning = request.tuning or default_tuning(request)
        # Read once: the graph for bulk must be that of the one for queries.
        self._network: ov.Model | None = self._read()
        self._compiled = self._compile(self._network, streams=1)
        self.shapes = self._shapes(self._tuning.tokens_per_thread * request.threads)

    @property
    def version(self) -> str:
        """OpenVINO's build."""
        return f"openvino {ov.get_version()}"

    def session(self) -> OpenVinoSession:
        """A new inference request on all threads."""
        return OpenVinoSession(self._compiled.create_infer_request, self.shapes)

    def bulk(self) -> Bulk:
        """A session for each thread; compiled when the first of them runs."""
        shapes = self._shapes(self._tuning.tokens_per_thread)
        sessions = [OpenVinoSession(self._bulk_request, shapes) for _ in range(self._request.threads)]
        return Bulk(sessions=sessions, shapes=shapes)

    def close(self) -> None:
        """Drop the compiled graphs."""
        del self._compiled, self._for_bulk, self._network

    def _bulk_request(self) -> ov.InferRequest:
        with self._lock:
            if self._for_bulk is None:
                assert self._network is not None  # noqa: S101 (it goes below)
                self._for_bulk = self._compile(self._network, streams=self._request.threads)
                self._network = None
        return self._for_bulk.create_infer_request()

    def _read(self) -> ov.Model:
        try:
            network, self.reasons = _network(self._path, self._request)
        except RuntimeError as err:
            raise BackendError(f"OpenVINO cannot open {self._path}: {err}") from err
        return network

    def _compile(self, network: ov.Model, *, streams: int) -> ov.CompiledModel:
        properties = {
            "INFERENCE_NUM_THREADS": self._request.threads,
            "INFERENCE_PRECISION_HINT": "f32",  # else machines with AMX run fp32 in bf16
            "NUM_STREAMS": streams,
            "PERFORMANCE_HINT": "LATENCY",
        }
        try:
            return ov.Core().compile_model(network, "CPU", properties)
        except RuntimeError as err:
            raise BackendError(f"OpenVINO cannot open {self._path}: {err}") from err

    def _shapes(self, token_budget: int) -> ShapePolicy:
        return ShapePolicy.bucketed(
            max_length=self._request.spec.max_length,
            token_budget=token_budget,
            positions=self._request.spec.positions,
            least_alone=self._tuning.least_alone,
        )


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
    """One inference request, made when it is first used."""

    any_thread = True

    def __init__(self, make: Callable[[], ov.InferRequest], shapes: ShapePolicy) -> None:
        self._make = make
        self._request: ov.InferRequest | None = None
        self._names: list[str] = []
        self._shapes = shapes

    def expect(self) -> None:
        """Nothing sleeps here that would have to be woken."""

    def run(self, batch: TokenBatch) -> Float32Array:
        """Sentence vectors, float32 ``[B, dim]``, or scores ``[B, 1]``."""
        if self._request is None:
            self._request = self._make()
            self._names = [port.get_any_name() for port in self._request.model_inputs]
        length = self._shapes.pad_to(int(batch.lengths.max()), rows=len(batch))
        inputs = batch.padded(length)
        try:
            self._request.infer({name: inputs[name] for name in self._names}, share_inputs=True)
        except RuntimeError as err:
            if "alloc" in str(err).lower():
                raise OutOfMemoryError(f"no memory for {len(batch)} x {length} tokens: {err}") from err
            raise BackendError(f"OpenVINO failed on {len(batch)} x {length} tokens: {err}") from err
        return np.array(self._request.get_output_tensor(0).data, np.float32)
