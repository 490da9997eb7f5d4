"""The layers of a quantized graph, and their way back to fp32."""

from __future__ import annotations

import numpy as np

from nimbed.quantization.openvino.exact import vectors_of
from nimbed.quantization.openvino.layers import in_fp32, layers_of
from nimbed.quantization.openvino.quantize import pack

LAST_ATTENTION = "/model/encoder/layer.1/attention/self/MatMul"


def test_layers_are_what_shares_rounded_values(quantized):
    layers = layers_of(quantized[1])
    together = [{name.rsplit("/", 2)[-2] for name in layer.operations} for layer in layers]
    assert together.count({"query", "key", "value"}) == 2
    assert [LAST_ATTENTION] in [list(layer.operations) for layer in layers]
    names = [name for layer in layers for name in (*layer.operations, *layer.quantizers)]
    assert len(names) == len(set(names))
    kinds = [op.get_type_name() for op in quantized[1].get_ops()]
    assert kinds.count("FakeQuantize") == sum(len(layer.quantizers) for layer in layers)


def test_all_layers_in_fp32_compute_as_before(quantized, pooled):
    prepared, rounded, texts = quantized
    exact = vectors_of(pooled(prepared.network), texts.ranking)
    back = in_fp32(rounded, layers_of(rounded))
    assert layers_of(back) == []
    np.testing.assert_allclose(vectors_of(pooled(back), texts.ranking), exact, atol=1e-4)
    spoiled = vectors_of(pooled(rounded), texts.ranking)
    assert np.abs(spoiled - exact).max() > 0.05
    np.testing.assert_allclose(vectors_of(pack(pooled(rounded)), texts.ranking), spoiled, atol=1e-4)


def test_of_some_layers_the_others_stay_quantized(quantized):
    layers = layers_of(quantized.rounded)
    back = in_fp32(quantized.rounded, layers[:2])
    assert [layer.operations for layer in layers_of(back)] == [layer.operations for layer in layers[2:]]
    assert layers_of(quantized.rounded) == layers  # it was a copy


def test_a_graph_in_fp32_has_none(quantized):
    assert layers_of(quantized.prepared.network) == []
