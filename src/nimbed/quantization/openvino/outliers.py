"""Outlier channels of the narrowing layers, computed apart in fp32.

The end of a feed-forward block (the layer with fewer outputs than inputs) reads a few channels that are many times
larger than the rest, and its weights for them are larger too: one scale for all would leave the rest few of the 256
levels. So its product is split, as in LLM.int8() (Dettmers et al. 2022, sec. 3.2): the largest input channels in
fp32, all others in int8, and the two added.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nimbed.backends.openvino_api import op, ov
from nimbed.quantization.calibration import one_row

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nimbed._types import Float32Array, Int32Array

# One input channel in so many is split off: 32 of 1536. On held-out texts 16, 32 and 64 came out level, at no cost in
# time that could be measured; none at all made int8's distance from fp32 twice as large.
_INPUTS_PER_OUTLIER = 48


def split_outliers(network: ov.Model, sequences: Sequence[Int32Array]) -> list[str]:
    """Split each narrowing layer of the network in place.

    Args:
        network: in fp32.
        sequences: token ids of the texts that tell which channels are the largest.

    Returns:
        Names of the operations that must stay fp32.
    """
    layers = narrowing_layers(network)
    largest = _largest_inputs(network, layers, sequences) if layers else []
    return [_split(layer, channels) for layer, channels in zip(layers, largest, strict=True)]


def narrowing_layers(network: ov.Model) -> list[ov.Node]:
    """Linear layers over tokens ``[B, S, in]`` with fewer outputs than inputs, in order."""
    linear = [layer for layer in _linear(network) if _input_shape(layer).rank.get_length() > 2]
    return [layer for layer in linear if _outputs(layer) < _input_shape(layer)[-1].get_length()]


def classifier_layers(network: ov.Model) -> list[str]:
    """Names of the linear layers over one vector a text ``[B, in]``: cheap, and a score hangs on their rounding."""
    return [layer.get_friendly_name() for layer in _linear(network) if _input_shape(layer).rank.get_length() == 2]


def _linear(network: ov.Model) -> list[ov.Node]:
    return [o for o in network.get_ordered_ops() if o.get_type_name() == "MatMul" and _weights(o) is not None]


def _input_shape(layer: ov.Node) -> ov.PartialShape:
    return layer.input_value(0).get_partial_shape()


def _weights(layer: ov.Node) -> Float32Array | None:
    """The constant weights ``[out, in]`` of a linear layer, or None where it is none."""
    node = layer.input_value(1).get_node()
    if node.get_type_name() == "Convert":  # stored as fp16
        node = node.input_value(0).get_node()
    if node.get_type_name() != "Constant" or len(node.get_output_shape(0)) != 2:
        return None
    if layer.input_value(0).get_partial_shape()[-1].is_dynamic or layer.get_attributes()["transpose_a"]:
        return None
    weights = np.asarray(node.get_data(), np.float32)
    return weights if layer.get_attributes()["transpose_b"] else weights.T


def _outputs(layer: ov.Node) -> int:
    outputs: int = layer.get_output_partial_shape(0)[-1].get_length()
    return outputs


def _largest_inputs(network: ov.Model, layers: list[ov.Node], sequences: Sequence[Int32Array]) -> list[Int32Array]:
    """For each layer the numbers of the channels that are split off, ascending, by their largest absolute value."""
    observed = network.clone()
    known = len(observed.outputs)
    by_name = {o.get_friendly_name(): o for o in observed.get_ops()}
    observed.add_outputs([by_name[layer.get_friendly_name()].input_value(0) for layer in layers])
    request = ov.Core().compile_model(observed, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}).create_infer_request()
    names = [port.get_any_name() for port in network.inputs]
    largest: list[Float32Array | float] = [0.0] * len(layers)
    for sequence in sequences:
        request.infer(one_row(sequence, names))
        for at in range(len(layers)):
            values = request.get_output_tensor(known + at).data  # [1, S, in]
            largest[at] = np.maximum(largest[at], np.abs(values).max(axis=(0, 1)))
    return [_top(np.asarray(values)) for values in largest]


def _top(values: Float32Array) -> Int32Array:
    count = max(1, len(values) // _INPUTS_PER_OUTLIER)
    return np.sort(np.argsort(-values, kind="stable")[:count]).astype(np.int32)


def _split(layer: ov.Node, channels: Int32Array) -> str:
    """Put ``int8(x * mask) + fp32(x[channels])`` in the place of one product; returns the second one's name."""
    weights = _weights(layer)
    assert weights is not None  # noqa: S101 (narrowing_layers chose it)
    rest = np.ones((1, weights.shape[1]), np.float32)
    rest[:, channels] = 0
    x, readers = layer.input_value(0), list(layer.output(0).get_target_inputs())
    chosen = op.gather(x, op.constant(channels), op.constant(np.int64(-1)))
    apart = op.matmul(chosen, op.constant(np.ascontiguousarray(weights[:, channels])), False, True)
    others = op.matmul(op.multiply(x, op.constant(rest[None])), op.constant(weights * rest), False, True)
    apart.set_friendly_name(f"{layer.get_friendly_name()}/outliers")
    others.set_friendly_name(f"{layer.get_friendly_name()}/rest")
    total = op.add(others, apart)
    for reader in readers:
        reader.replace_source_output(total.output(0))
    name: str = apart.get_friendly_name()
    return name
