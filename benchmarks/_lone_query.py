"""What a lone query costs in OpenVINO: one graph for every shape, as nimbed has it, beside a graph for each length."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any

import _common
import numpy as np

from nimbed import _machine
from nimbed._types import TokenBatch
from nimbed.backends.openvino_api import ov
from nimbed.backends.shapes import ShapePolicy

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

REPEATS = 20


class Lone:
    """The artefact's graph on one stream, for one text at a time, padded as nimbed pads it, to ``least`` or more."""

    def __init__(
        self, folder: Path, *, threads: int, least: int = 16, fixed: bool = False, profile: bool = False
    ) -> None:
        self._folder, self._fixed = folder, fixed
        self._shapes = ShapePolicy.bucketed(max_length=256, token_budget=256, least_alone=least)
        self._properties = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERF_COUNT": profile}
        self._requests: dict[int, ov.InferRequest] = {}

    def vector(self, ids: np.ndarray) -> np.ndarray:
        """``[dim]``."""
        length = self._shapes.pad_to(len(ids))
        request = self._request(length)
        padded = TokenBatch.from_sequences([ids]).padded(length)
        request.infer({port.get_any_name(): padded[port.get_any_name()] for port in request.model_inputs})
        return np.array(request.get_output_tensor(0).data[0])

    def p50(self, queries: Sequence[np.ndarray]) -> float:
        """Milliseconds."""
        return 1000 * median(_common.seconds(lambda ids=ids: self.vector(ids)) for ids in queries)

    def operations_ms(self) -> float:
        """Of the last call, in the graph's operations; the rest of it went by between them."""
        (request,) = self._requests.values()
        return 1000 * sum(node.real_time.total_seconds() for node in request.profiling_info)

    def _request(self, length: int) -> ov.InferRequest:
        key = length if self._fixed else 0
        if key not in self._requests:
            network = ov.Core().read_model(self._folder / "model.xml")
            if self._fixed:
                network.reshape({port.get_any_name(): [1, length] for port in network.inputs})
            properties = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY", **self._properties}
            self._requests[key] = ov.Core().compile_model(network, "CPU", properties).create_infer_request()
        return self._requests[key]


def lone_queries(folder: Path, queries: Sequence[np.ndarray], rounds: int) -> dict[str, Any]:
    """The p50 of each round in ms, by variant; all lengths were seen before."""
    threads = _machine.thread_plan().threads
    variants = {
        "one graph, at least 32 tokens": Lone(folder, threads=threads, least=32),
        "one graph, at least 16 tokens": Lone(folder, threads=threads),
        "one graph, at least 32 tokens, one thread": Lone(folder, threads=1, least=32),
        "a graph for each length": Lone(folder, threads=threads, fixed=True),
    }
    vectors = {name: np.stack([lone.vector(ids) for ids in queries]) for name, lone in variants.items()}
    times: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, lone in variants.items():
            times[name].append(lone.p50(queries))
    first = next(iter(vectors))
    return {
        "p50, ms": times,
        "vectors": {name: against(found, vectors[first]) for name, found in vectors.items() if name != first},
        "first, of a call": in_operations(folder, queries[0], threads),
    }


def against(vectors: np.ndarray, first: np.ndarray) -> dict[str, float]:
    """How many vectors are the first variant's to the bit, and by how much the others differ."""
    worst, _ = _common.worst_and_mean_cosine(vectors, first)
    same = int((vectors == first).all(axis=1).sum())
    return {"same": same, "of": len(first), "component": float(np.abs(vectors - first).max()), "worst cosine": worst}


def in_operations(folder: Path, ids: np.ndarray, threads: int) -> dict[str, float]:
    """Of one query at 32 tokens, medians in ms: the whole call, and its operations."""
    lone = Lone(folder, threads=threads, least=32, profile=True)
    lone.vector(ids)
    calls, operations = [], []
    for _ in range(REPEATS):
        calls.append(1000 * _common.seconds(lambda: lone.vector(ids)))
        operations.append(lone.operations_ms())
    return {"call, ms": median(calls), "operations, ms": median(operations)}
