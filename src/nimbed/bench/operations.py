"""How much arithmetic a text is: counted in the network's graph, or from the native engine's settings."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nimbed._model_folder.safetensors import read_tensors
from nimbed.backends.table import ENCODER_FILE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import openvino as ov


@dataclass(frozen=True, kw_only=True)
class Operations:
    """Matrix products of a text of n tokens: ``linear * n + quadratic * n^2`` operations, padding not counted.

    A product of two numbers and its addition are two operations. The linear layers grow with the tokens, attention with
    their square.
    """

    linear: float
    quadratic: float

    def of(self, lengths: Sequence[int]) -> float:
        """Operations of texts of these lengths in tokens."""
        tokens = np.asarray(lengths, np.float64)
        return float(self.linear * tokens.sum() + self.quadratic * (tokens**2).sum())


def count_operations(folder: Path) -> Operations | None:
    """Of an artefact for OpenVINO or the native engine; None for another."""
    if (folder / ENCODER_FILE).is_file():
        return _of_settings(folder / ENCODER_FILE)
    return _of_graph(folder) if (folder / "model.xml").is_file() else None


def _of_settings(file: Path) -> Operations:
    """From the native engine's settings."""
    known = json.loads(read_tensors(file)[1]["nimbed"])
    size, inner, layers = known["size"], known["inner"], len(known["layers"])
    keys = known["head_groups"] * known["group_heads"] * known["head_dim"]
    queries = keys * known["queries"]
    weights = size * (2 * queries + 2 * keys + (3 if known["gated"] else 2) * inner)
    return Operations(linear=2.0 * layers * weights, quadratic=4.0 * layers * queries)


def _of_graph(folder: Path) -> Operations:
    """Counted in an OpenVINO graph, seen at two lengths."""
    from nimbed.backends.openvino_api import ov

    short, long = 32, 64
    first, second = (_at(ov.Core().read_model(folder / "model.xml"), tokens) for tokens in (short, long))
    quadratic = (second / long - first / short) / (long - short)
    return Operations(linear=first / short - quadratic * short, quadratic=quadratic)


def _at(network: ov.Model, tokens: int) -> float:
    """All products of one text of so many tokens."""
    network.reshape({port.get_any_name(): [1, tokens] for port in network.inputs})
    return sum(_products(node) for node in network.get_ordered_ops() if node.get_type_name() == "MatMul")


def _products(node: ov.Node) -> float:
    depth: int = node.input(0).get_shape()[-2 if node.get_attributes()["transpose_a"] else -1]
    return 2.0 * depth * float(np.prod(node.output(0).get_shape()))
