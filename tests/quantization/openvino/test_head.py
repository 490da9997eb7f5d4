"""The sentence head: as torch computes it, and in fp32."""

from __future__ import annotations

import json
import shutil

import numpy as np
import openvino as ov
import pytest
from tests.conftest import write_modules

from nimbed import SpecOverrides
from nimbed.errors import SpecError
from nimbed.quantization.openvino.head import PREFIX, append_head
from nimbed.spec import read_spec

TEXTS = ["one", "two words", "", "a somewhat longer text, with punctuation!", "word " * 40]


def test_nothing_in_the_head_is_quantized(minilm_openvino_int8):
    model = ov.Core().read_model(minilm_openvino_int8 / "model.xml")
    head = [op for op in model.get_ops() if op.get_friendly_name().startswith(PREFIX)]
    kinds = {op.get_type_name() for op in head}
    assert {"NormalizeL2", "ReduceSum", "Divide"} <= kinds
    assert "FakeQuantize" not in kinds
    for op in head:
        for source in op.input_values():
            assert source.get_node().get_type_name() != "FakeQuantize", f"{op} reads quantized values"
    # It is the encoder that is quantized.
    assert sum(op.get_type_name() == "FakeQuantize" for op in model.get_ops()) >= 6 * 6


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


def test_a_graph_without_token_vectors_is_refused(tiny_folder):
    from openvino import opset13 as op

    ids = op.parameter([-1, -1], np.int64)
    ids.output(0).get_tensor().set_names({"input_ids"})
    graph = ov.Model([op.result(op.convert(ids, "f32"))], [ids], "no token vectors")
    with pytest.raises(SpecError, match="no single output of token vectors"):
        append_head(graph, read_spec(tiny_folder), tiny_folder)
