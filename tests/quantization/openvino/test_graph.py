"""The ways in: graphs that are read, and what is refused of them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as op

from nimbed.errors import SpecError
from nimbed.quantization.openvino.graph import _finite_masks, is_quantized, load_network


def graph(*outputs, names=("input_ids", "attention_mask")):
    """A graph with these inputs whose output is the first of them times a constant."""
    inputs = [op.parameter([-1, -1], np.int64) for _ in names]
    for made, name in zip(inputs, names, strict=True):
        made.output(0).get_tensor().set_names({name})
    factor = outputs[0] if outputs else op.constant(np.float32([2, 3]))
    return ov.Model([op.result(op.multiply(op.convert(inputs[0], "f32"), factor))], inputs, "graph")


def load(network, folder, name="model.xml"):
    ov.save_model(network, folder / name, compress_to_fp16=False)
    return load_network(SimpleNamespace(folder=str(folder), graph=name))


def test_a_graph_is_read_as_it_is(tmp_path):
    assert {p.get_any_name() for p in load(graph(), tmp_path).inputs} == {"input_ids", "attention_mask"}


def test_a_graph_with_other_inputs_is_refused(tmp_path):
    with pytest.raises(SpecError, match=r"inputs are \['pixels'\]; .*attention_mask.* are needed"):
        load(graph(names=("pixels",)), tmp_path)


def test_weights_that_are_not_finite_are_refused(tmp_path):
    with pytest.raises(SpecError, match=r"model\.xml: .*NaN or infinite"):
        load(graph(op.constant(np.float32([np.nan, 1]))), tmp_path)


@pytest.mark.parametrize("name", ["model.xml", "model.onnx"])
def test_a_damaged_file_is_named(name, tmp_path):
    (tmp_path / name).write_bytes(b"nothing of the kind")
    with pytest.raises(SpecError, match=rf"{name} cannot be read: .*; fetch it again"):
        load_network(SimpleNamespace(folder=str(tmp_path), graph=name))


def test_int8_is_known_by_its_constants_or_fake_quantizers(tmp_path, quantized):
    assert not is_quantized(graph())
    assert not is_quantized(graph(op.convert(op.constant(np.int8(3)), "f32")))  # a lone number is no table
    assert is_quantized(graph(op.convert(op.constant(np.int8([3, 4])), "f32")))
    assert is_quantized(quantized.rounded)
    assert not is_quantized(quantized.prepared.network)


def test_masks_become_numbers_so_that_a_softmax_of_nothing_is_finite():
    x = op.parameter([1, 1, 2, 4], np.float32)
    mask = op.parameter([1, 1, 2, 2], np.bool_)
    attention = op.scaled_dot_product_attention(x, x, x, mask)
    network = ov.Model([op.result(attention)], [x, mask], "attention")
    _finite_masks(network)
    request = ov.Core().compile_model(network, "CPU").create_infer_request()
    request.infer([np.ones((1, 1, 2, 4), np.float32), np.array([[[[True, False], [False, False]]]])])
    assert np.isfinite(request.get_output_tensor(0).data).all()
