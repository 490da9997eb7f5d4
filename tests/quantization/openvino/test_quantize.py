"""What NNCF quantizes, and how."""

from __future__ import annotations

import sys

import numpy as np
import openvino as ov
import pytest

from nimbed.errors import MissingExtraError
from nimbed.quantization.openvino.head import PREFIX
from nimbed.quantization.openvino.quantize import pack, quantize_network


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


def test_weights_are_fp32_until_they_are_packed(quantized):
    def kinds(network):
        constants = (node for node in network.get_ops() if node.get_type_name() == "Constant")
        return {str(c.get_element_type()) for c in constants if len(c.get_output_shape(0)) == 2}

    assert "<Type: 'int8_t'>" not in kinds(quantized.rounded)
    assert "<Type: 'int8_t'>" in kinds(pack(quantized.rounded))
    assert "<Type: 'int8_t'>" not in kinds(quantized.rounded)  # a copy was packed


def test_without_nncf_the_message_has_the_command(quantized, monkeypatch):
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(MissingExtraError, match=r'pip install "nimbed\[quantize\]"'):
        quantize_network(quantized.prepared, quantized.texts.calibrate)
