"""Embedding tables: which stay fp32, and int8 ones that stay int8 in memory."""

from __future__ import annotations

import numpy as np
import openvino as ov

from nimbed.quantization.openvino.tables import look_up_before_scaling, small_tables


def test_embedding_tables(minilm_openvino_int8, minilm_fp32):
    """The words' one is int8 and stays so in memory; those of positions and token types are fp32."""
    small = small_tables(ov.Core().read_model(minilm_fp32 / "model.xml"))
    assert sorted(name.split("/")[0].split(".")[-1] for name in small) == [
        "position_embeddings",
        "token_type_embeddings",
    ]
    lookups = [
        op
        for op in ov.Core().read_model(minilm_openvino_int8 / "model.xml").get_ops()
        if op.get_type_name() == "Gather"
    ]
    tables = [op.input_value(0).get_node() for op in lookups]
    kinds = {
        tuple(t.get_output_shape(0)): t.get_element_type().to_string()
        for t in tables
        if t.get_type_name() == "Constant" and len(t.get_output_shape(0)) == 2
    }
    assert kinds == {(30522, 384): "i8", (30522, 1): "f32", (512, 384): "f32", (2, 384): "f32"}


def test_rows_are_looked_up_before_they_are_scaled():
    from openvino import opset13 as op

    rng = np.random.default_rng(0)
    table = rng.integers(-128, 128, (50, 8)).astype(np.int8)
    scale = rng.random((50, 1)).astype(np.float32)
    ids = op.parameter([-1], np.int64)
    scaled = op.multiply(op.convert(op.constant(table), "f32"), op.constant(scale))
    network = ov.Model([op.result(op.gather(scaled, ids, op.constant(np.int64(0))))], [ids], "lookup")
    look_up_before_scaling(network)
    read = [op.input_value(0).get_node().get_output_element_type(0) for op in network.get_ops() if is_gather(op)]
    assert ov.Type.i8 in read
    request = ov.Core().compile_model(network, "CPU").create_infer_request()
    request.infer([np.array([3, 49])])
    np.testing.assert_allclose(request.get_output_tensor(0).data, (table * scale)[[3, 49]], rtol=1e-6)


def is_gather(operation) -> bool:
    return operation.get_type_name() == "Gather"


def test_tables_in_fp32_stay_as_they_are(tiny_onnx):
    network = ov.Core().read_model(tiny_onnx / "onnx" / "model.onnx")
    before = [node.get_friendly_name() for node in network.get_ordered_ops()]
    look_up_before_scaling(network)
    assert [node.get_friendly_name() for node in network.get_ordered_ops()] == before
