"""What the CPU could do: matrix products alone, in the same engine and threads, measured beside the contenders."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from nimbed.bench.measure import seconds

if TYPE_CHECKING:
    import openvino as ov

Arithmetic = Literal["fp32", "int8"]
ARITHMETIC: tuple[Arithmetic, ...] = ("fp32", "int8")

_ROWS, _WIDTH, _LAYERS = 2048, 1024, 8
_INT8_RANGE = 4.0


class Roof:
    """A chain of ``[2048, 1024] x [1024, 1024]`` products, weights in place, nothing between them.

    In int8 the chain requantizes after each product, as a network must. One pass is 34 G operations, a product of two
    numbers and its addition counted as two.
    """

    def __init__(self, arithmetic: Arithmetic, threads: int) -> None:
        from nimbed.backends.openvino_api import ov

        self.arithmetic = arithmetic
        properties = {
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": "f32",
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
        }
        self._request: Any = ov.Core().compile_model(_chain(arithmetic), "CPU", properties).create_infer_request()
        self._rows = np.random.default_rng(0).standard_normal((_ROWS, _WIDTH), np.float32)
        self._pass()

    def gops(self) -> float:
        """10^9 operations a second, of one pass."""
        return 2 * _ROWS * _WIDTH * _WIDTH * _LAYERS / seconds(self._pass) / 1e9

    def _pass(self) -> None:
        self._request.infer([self._rows], share_inputs=True)


def _chain(arithmetic: Arithmetic) -> ov.Model:
    from nimbed.backends.openvino_api import op as ops
    from nimbed.backends.openvino_api import ov

    rng = np.random.default_rng(0)
    rows = ops.parameter([_ROWS, _WIDTH], np.float32)
    values = rows
    for _ in range(_LAYERS):
        weights = rng.integers(-127, 128, (_WIDTH, _WIDTH)).astype(np.int8)
        # This scale keeps the values' spread as it is from product to product.
        scale = np.float32(1 / (74 * np.sqrt(_WIDTH)))
        if arithmetic == "int8":
            values = ops.fake_quantize(values, -_INT8_RANGE, _INT8_RANGE, -_INT8_RANGE, _INT8_RANGE, 256)
            kept = ops.multiply(ops.convert(ops.constant(weights), np.float32), ops.constant(scale))
        else:
            kept = ops.constant(weights * scale)
        values = ops.matmul(values, kept, transpose_a=False, transpose_b=True)
    return ov.Model([values], [rows], f"{arithmetic} roof")
