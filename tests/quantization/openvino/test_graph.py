"""The graphs of artefacts: the head, the outlier channels, the embedding tables, and what is quantised how."""

from __future__ import annotations

import json
import shutil

import numpy as np
import openvino as ov
import pytest
from tests.conftest import write_modules

from nimbed import SpecOverrides
from nimbed.errors import SpecError
from nimbed.quantization.calibration import one_row
from nimbed.quantization.openvino.head import PREFIX, append_head
from nimbed.quantization.openvino.outliers import narrowing_layers, split_outliers
from nimbed.quantization.openvino.tables import small_tables
from nimbed.spec import read_spec

TEXTS = ["one", "two words", "", "a somewhat longer text, with punctuation!", "word " * 40]


def test_nothing_in_the_head_is_quantised(minilm_openvino_int8):
    model = ov.Core().read_model(minilm_openvino_int8 / "model.xml")
    head = [op for op in model.get_ops() if op.get_friendly_name().startswith(PREFIX)]
    kinds = {op.get_type_name() for op in head}
    assert {"NormalizeL2", "ReduceSum", "Divide"} <= kinds
    assert "FakeQuantize" not in kinds
    for op in head:
        for source in op.input_values():
            assert source.get_node().get_type_name() != "FakeQuantize", f"{op} reads quantised values"
    # It is the encoder that is quantised.
    assert sum(op.get_type_name() == "FakeQuantize" for op in model.get_ops()) >= 6 * 6


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


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("pooling", ["cls", "lasttoken", "max", "mean", "weightedmean"])
def test_every_head_agrees_with_torch(pooling, normalize, tiny_folder, tiny_onnx, tmp_path):
    spec = read_spec(tiny_folder, overrides=SpecOverrides(pooling=pooling, normalize=normalize))
    network = ov.Core().read_model(tiny_onnx / "onnx" / "model.onnx")
    ov.save_model(append_head(network, spec, tiny_folder), tmp_path / "model.xml", compress_to_fp16=False)
    assert compare_with_torch(tmp_path, spec, tiny_folder) < 1e-5


def test_dense_layer_agrees_with_torch(tiny_folder, tiny_onnx, tmp_path):
    import torch
    from safetensors.torch import save_file

    folder = shutil.copytree(tiny_folder, tmp_path / "dense")
    write_modules(folder, pooling="mean", normalize=True, dense=True)
    (folder / "2_Dense").mkdir()
    config = {
        "in_features": 32,
        "out_features": 8,
        "bias": True,
        "activation_function": "torch.nn.modules.activation.Tanh",
    }
    (folder / "2_Dense" / "config.json").write_text(json.dumps(config))
    weights = {"linear.weight": torch.randn(8, 32), "linear.bias": torch.randn(8)}
    save_file(weights, folder / "2_Dense" / "model.safetensors")
    spec = read_spec(folder)
    assert spec.dim == 8
    network = ov.Core().read_model(tiny_onnx / "onnx" / "model.onnx")
    ov.save_model(append_head(network, spec, folder), tmp_path / "model.xml", compress_to_fp16=False)
    assert compare_with_torch(tmp_path, spec, folder) < 1e-5
    save_file({"linear.weight": torch.randn(7, 32)}, folder / "2_Dense" / "model.safetensors")
    with pytest.raises(SpecError, match=r"linear.weight has shape \(7, 32\), config.json says \(8, 32\)"):
        append_head(network, spec, folder)


def compare_with_torch(folder, spec, source) -> float:
    """Largest difference between OpenVINO's vectors and torch's."""
    from nimbed._text.tokenizer import TextTokenizer, load_tokenizer
    from nimbed._types import TokenBatch
    from nimbed.backends import open_backend
    from nimbed.backends.protocol import OpenRequest

    tokenizer = TextTokenizer(load_tokenizer(source), spec, max_length=spec.max_length, truncate="silent")
    batch = TokenBatch.from_sequences(tokenizer(TEXTS).sequences)
    vectors = []
    for backend, place in (("openvino", folder), ("torch", source)):
        opened = open_backend(backend, OpenRequest(folder=place, spec=spec, precision="fp32", threads=1))
        vectors.append(opened.session().run(batch))
    return float(np.abs(vectors[0] - vectors[1]).max())


def test_weights_by_channel_and_smoothquant(minilm_openvino_int8):
    """Each of the 36 linear layers: int8 weights with a scale for each output, read by smoothed activations."""
    network = ov.Core().read_model(minilm_openvino_int8 / "model.xml")
    linear = [op for op in network.get_ops() if op.get_type_name() == "MatMul" and not is_kept(op)]
    assert len(linear) == 6 * 6
    for layer in linear:
        weights, rounded = layer.input_value(1).get_node(), layer.input_value(0).get_node()
        values, scale = (weights.input_value(side).get_node() for side in (0, 1))
        assert values.input_value(0).get_node().get_element_type() == ov.Type.i8
        assert list(scale.get_output_shape(0)) == [values.get_output_shape(0)[0], 1]
        assert len(np.unique(scale.get_data())) > 1
        assert rounded.get_type_name() == "FakeQuantize"
        assert "smooth_quant" in rounded.input_value(0).get_node().get_friendly_name()


def is_kept(operation) -> bool:
    return operation.get_friendly_name().endswith("/outliers") or operation.get_friendly_name().startswith(PREFIX)
