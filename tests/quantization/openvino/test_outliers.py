"""Outlier channels, split off and computed in fp32."""

from __future__ import annotations

import numpy as np
import openvino as ov

from nimbed.quantization.calibration import one_row
from nimbed.quantization.openvino.outliers import classifier_layers, narrowing_layers, split_outliers


def test_the_outlier_split_computes_the_same(tiny_folder, tiny_onnx):
    sequences = [np.array([101, *range(200, 200 + n), 102], np.int32) for n in (1, 5, 30)]
    network = ov.Core().read_model(tiny_onnx / "onnx" / "model.onnx")
    narrow = narrowing_layers(network)
    matmuls = [op for op in network.get_ordered_ops() if op.get_type_name() == "MatMul"]
    linear = [op.get_friendly_name() for op in matmuls if len(op.input_value(1).get_partial_shape()) == 2]
    # Of a layer's six, only the last one narrows: query, key, value, the attention's output, up, down.
    assert [op.get_friendly_name() for op in narrow] == linear[5::6]
    expected = [vectors_of_tokens(network, sequence) for sequence in sequences]
    kept = split_outliers(network, sequences)
    assert kept == [f"{name}/outliers" for name in linear[5::6]]
    for sequence, vectors in zip(sequences, expected, strict=True):
        np.testing.assert_allclose(vectors_of_tokens(network, sequence), vectors, atol=1e-5)


def vectors_of_tokens(network, sequence):
    properties = {"INFERENCE_PRECISION_HINT": "f32"}
    request = ov.Core().compile_model(network, "CPU", properties).create_infer_request()
    request.infer(one_row(sequence, [port.get_any_name() for port in network.inputs]))
    return request.get_output_tensor(0).data.copy()


def test_the_largest_channels_are_split_off():
    from openvino import opset13 as op

    rng = np.random.default_rng(0)
    tokens = op.parameter([-1, -1], np.int64)
    tokens.output(0).get_tensor().set_names({"input_ids"})
    table = rng.normal(size=(50, 96)).astype(np.float32)
    table[:, [7, 90]] *= 30
    weights = rng.normal(size=(96, 8)).astype(np.float32)
    product = op.matmul(
        op.gather(op.constant(table), tokens, op.constant(np.int64(0))), op.constant(weights), False, False
    )
    product.set_friendly_name("down")
    network = ov.Model([op.result(product)], [tokens], "one layer")
    sequence = np.arange(50, dtype=np.int32)
    before = vectors_of_tokens(network, sequence)
    assert split_outliers(network, [sequence]) == ["down/outliers"]
    apart = next(o for o in network.get_ops() if o.get_friendly_name() == "down/outliers")
    np.testing.assert_array_equal(apart.input_value(0).get_node().input_value(1).get_node().get_data(), [7, 90])
    np.testing.assert_allclose(vectors_of_tokens(network, sequence), before, rtol=1e-4, atol=1e-3)


def linear(width, *shape):
    """A graph of one linear layer ``[width, 4]`` over an input of this shape."""
    from openvino import opset13 as op

    x = op.parameter([*shape, width], np.float32)
    weights = np.zeros((width, 4), np.float32)
    product = op.matmul(x, op.constant(weights), False, False)
    product.set_friendly_name("linear")
    return ov.Model([op.result(product)], [x], "linear")


def test_a_classifiers_layers_read_one_vector_a_text():
    assert classifier_layers(linear(8, -1)) == ["linear"]
    assert classifier_layers(linear(8, -1, -1)) == []


def test_only_layers_over_tokens_that_narrow_are_split():
    assert [layer.get_friendly_name() for layer in narrowing_layers(linear(8, -1, -1))] == ["linear"]
    assert narrowing_layers(linear(4, -1, -1)) == []
    assert narrowing_layers(linear(8, -1)) == []
    assert split_outliers(linear(4, -1, -1), []) == []
