"""The latency that layers in fp32 cost."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from nimbed import _machine
from nimbed.backends.openvino_api import ov
from nimbed.quantization.calibration import one_row

if TYPE_CHECKING:
    from nimbed._types import Int32Array

_ROUNDS = 15


def latency_cost(before: ov.Model, after: ov.Model, sequence: Int32Array) -> dict[str, Any]:
    """How much longer one text takes: medians, with the two graphs alternating in the same process.

    Args:
        before: the packed graph as it was quantized.
        after: the packed graph with layers in fp32.
        sequence: token ids of the text.

    Returns:
        ``latency_ratio`` and the token count; where this CPU cannot compute in int8, None and the reason.
    """
    cpu = _machine.cpu()
    if not cpu.fast_int8:
        reason = f"not measured: with {cpu.instruction_set} instructions nimbed computes activations in fp32 throughout"
        return {"latency_ratio": None, "latency": reason}
    requests = [_request(graph) for graph in (before, after)]
    row = one_row(sequence, [port.get_any_name() for port in before.inputs])
    took = np.array([[_milliseconds(request, row) for request in requests] for _ in range(_ROUNDS)])
    ratio = np.median(took[:, 1]) / np.median(took[:, 0])
    return {"latency_ratio": round(float(ratio), 3), "latency": f"one text of {len(sequence)} tokens, with {cpu.model}"}


def _request(graph: ov.Model) -> Any:  # noqa: ANN401 (an inference request)
    properties = {"INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"}
    return ov.Core().compile_model(graph, "CPU", properties).create_infer_request()


def _milliseconds(request: Any, row: dict[str, np.ndarray]) -> float:  # noqa: ANN401
    started = time.perf_counter()
    request.infer(row)
    return 1000 * (time.perf_counter() - started)
