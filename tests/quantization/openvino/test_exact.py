"""Graphs computed as they stand, by nimbed and by NNCF."""

from __future__ import annotations

import numpy as np
import openvino as ov
import pytest

from nimbed.errors import BuildError
from nimbed.quantization.calibration import one_row
from nimbed.quantization.openvino.exact import exact_arithmetic, vectors_of


def test_nncf_computes_without_saturation(quantized, pooled):
    """Under the wrapper, an engine of NNCF's own gives what is measured, whatever kernels this CPU has."""
    from nncf.openvino.engine import OVNativeEngine

    encoder, sequence = pooled(quantized[1]), quantized[2].ranking[0]
    row = one_row(sequence, [port.get_any_name() for port in encoder.inputs])
    real = ov.Core.compile_model
    with exact_arithmetic():
        (vectors,) = OVNativeEngine(encoder).infer(row).values()
    assert ov.Core.compile_model is real
    np.testing.assert_allclose(vectors[0], vectors_of(encoder, [sequence])[0], atol=1e-6)


def test_openvinos_own_call_is_back_after_an_error():
    real = ov.Core.compile_model
    with pytest.raises(KeyError), exact_arithmetic():
        raise KeyError
    assert ov.Core.compile_model is real


def test_vectors_come_in_the_order_of_the_texts(quantized, pooled):
    graph, texts = pooled(quantized.prepared.network), quantized.texts.held_out[:20]
    together = vectors_of(graph, texts)
    np.testing.assert_allclose(together, np.concatenate([vectors_of(graph, [text]) for text in texts]), atol=1e-5)


def test_outputs_that_are_not_finite_end_the_build():
    from openvino import opset13 as op

    ids = op.parameter([-1, -1], np.int64)
    ids.output(0).get_tensor().set_names({"input_ids"})
    values = op.log(op.multiply(op.convert(ids, "f32"), op.constant(np.float32(-1))))
    graph = ov.Model([op.result(values)], [ids], "logarithms of negative numbers")
    with pytest.raises(BuildError, match="not finite"):
        vectors_of(graph, [np.array([1, 2], np.int32)])
