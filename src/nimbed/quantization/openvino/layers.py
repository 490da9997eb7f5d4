"""The layers of a quantized graph: which they are, and how they go back to fp32."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    import openvino as ov

# They move values and compute none: a fake quantizer before them belongs to what reads them.
_MOVING = frozenset(
    ("Broadcast", "Concat", "Convert", "Reshape", "Slice", "Split", "Squeeze", "StridedSlice", "Transpose", "Unsqueeze",
     "VariadicSplit")
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Layer:
    """Operations that share rounded values, so that they are quantized or fp32 together (query, key and value, say).

    Attributes:
        operations: their names, in the graph's order.
        quantizers: names of the fake quantizers before them, those of weights and of activations.
    """

    operations: tuple[str, ...]
    quantizers: tuple[str, ...]


def layers_of(encoder: ov.Model) -> list[Layer]:
    """The quantized layers of a graph whose weights are not packed yet, in order."""
    groups: list[tuple[set[str], set[str]]] = []
    order = {node.get_friendly_name(): at for at, node in enumerate(encoder.get_ordered_ops())}
    for quantizer in _quantizers(encoder):
        operations, quantizers = _readers(quantizer), {quantizer.get_friendly_name()}
        for group in [g for g in groups if g[0] & operations]:
            groups.remove(group)
            operations |= group[0]
            quantizers |= group[1]
        groups.append((operations, quantizers))
    groups.sort(key=lambda group: min(order[name] for name in group[0]))
    return [
        Layer(operations=tuple(sorted(o, key=order.__getitem__)), quantizers=tuple(sorted(q, key=order.__getitem__)))
        for o, q in groups
    ]


def in_fp32(encoder: ov.Model, layers: Iterable[Layer]) -> ov.Model:
    """A copy in which these layers are computed in fp32."""
    names = {name for layer in layers for name in layer.quantizers}
    copy = encoder.clone()
    for quantizer in _quantizers(copy):
        if quantizer.get_friendly_name() in names:
            for reader in quantizer.output(0).get_target_inputs():
                reader.replace_source_output(quantizer.input_value(0))
    copy.validate_nodes_and_infer_types()
    return copy


def _quantizers(encoder: ov.Model) -> list[ov.Node]:
    return [node for node in encoder.get_ordered_ops() if node.get_type_name() == "FakeQuantize"]


def _readers(quantizer: ov.Node) -> set[str]:
    """Names of the operations that compute with what this one rounds."""
    found: set[str] = set()
    ahead = [quantizer]
    while ahead:
        for output in ahead.pop().outputs():
            for port in output.get_target_inputs():
                node = port.get_node()
                if node.get_type_name() in _MOVING:
                    ahead.append(node)
                else:
                    found.add(node.get_friendly_name())
    return found
