"""The sentence head: pooling, dense layers and normalization as OpenVINO operations.

It is appended after quantization, so that it runs in fp32: NNCF would quantize NormalizeL2, which costs worst-case
cosine. Token vectors ``[B, S, H]`` never leave the graph.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nimbed._model_folder.weights import read_dense
from nimbed.backends.openvino_api import op, ov
from nimbed.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nimbed._types import DenseSpec, ModelSpec

PREFIX = "nimbed."
_ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "gelu": lambda x: op.gelu(x, "erf"),
    "identity": lambda x: x,
    "relu": op.relu,
    "sigmoid": op.sigmoid,
    "tanh": op.tanh,
}


def append_head(network: ov.Model, spec: ModelSpec, folder: Path) -> ov.Model:
    """A graph from token ids to sentence vectors, float32 ``[B, dim]``, or to scores ``[B, 1]``.

    Args:
        network: graph with inputs ``input_ids``, ``attention_mask`` and an output of token vectors ``[B, S, H]``, or
            of logits ``[B, 1]`` where it scores.
        spec: what to append.
        folder: the model folder, where the dense layers' weights are.
    """
    before = {node.get_friendly_name() for node in network.get_ops()}
    if spec.task == "scoring":
        name, vector = "score", _ACTIVATIONS[spec.activation](_logits(network))  # [B, 1]
    else:
        name, vector = "sentence_embedding", _sentence_vector(network, spec, folder)
    result = op.result(vector)
    result.output(0).get_tensor().set_names({name})
    model = ov.Model([result], network.get_parameters(), "sentence_encoder")
    for number, node in enumerate(n for n in model.get_ordered_ops() if n.get_friendly_name() not in before):
        node.set_friendly_name(f"{PREFIX}{number}.{node.get_type_name()}")
    return model


def _sentence_vector(network: ov.Model, spec: ModelSpec, folder: Path) -> Any:  # noqa: ANN401 (OpenVINO outputs)
    hidden = _token_vectors(network)
    mask = op.convert(network.input("attention_mask"), "f32")  # [B, S]
    vector = _POOLINGS[spec.pooling](hidden, mask)  # [B, H]
    for dense in spec.dense:
        vector = _dense(vector, dense, folder)
    # torch.nn.functional.normalize: x / max(|x|, 1e-12)
    return op.normalize_l2(vector, _axes(1), 1e-12, "max") if spec.normalize else vector


def _logits(network: ov.Model) -> Any:  # noqa: ANN401 (OpenVINO outputs)
    """The output that holds one logit for each pair."""
    found = [o for o in network.outputs if "logits" in o.get_names()] or list(network.outputs)
    shape = found[0].get_partial_shape()
    if len(found) != 1 or shape.rank.get_length() != 2 or (shape[1].is_static and shape[1].get_length() != 1):
        raise SpecError(
            "the graph has no single output of logits ([batch, 1]); "
            f"its outputs are {[sorted(o.get_names()) for o in network.outputs]}"
        )
    return found[0].get_node().input_value(0)


def _token_vectors(network: ov.Model) -> Any:  # noqa: ANN401 (OpenVINO outputs)
    """The output that holds one vector for each token."""
    named = [o for o in network.outputs if o.get_names() & {"last_hidden_state", "token_embeddings"}]
    wide = named or [o for o in network.outputs if o.get_partial_shape().rank.get_length() == 3]
    if len(wide) != 1:
        raise SpecError(
            "the graph has no single output of token vectors (last_hidden_state, [batch, tokens, hidden]); "
            f"its outputs are {[sorted(o.get_names()) for o in network.outputs]}"
        )
    return wide[0].get_node().input_value(0)


def _cls(hidden: Any, mask: Any) -> Any:  # noqa: ANN401, ARG001
    return op.gather(hidden, op.constant(np.int64(0)), op.constant(np.int64(1)))


def _mean(hidden: Any, mask: Any) -> Any:  # noqa: ANN401
    return _weighted(hidden, mask)


def _weightedmean(hidden: Any, mask: Any) -> Any:  # noqa: ANN401
    """Token i weighs i + 1: SGPT, Muennighoff 2022, eq. 2."""
    positions = op.cum_sum(mask, op.constant(np.int64(1)))
    return _weighted(hidden, op.multiply(positions, mask))


def _weighted(hidden: Any, weights: Any) -> Any:  # noqa: ANN401
    total = op.reduce_sum(op.multiply(hidden, op.unsqueeze(weights, _axes(2))), _axes(1), keep_dims=False)
    count = op.reduce_sum(weights, _axes(1), keep_dims=True)
    return op.divide(total, op.maximum(count, op.constant(np.float32(1e-9))))


def _max(hidden: Any, mask: Any) -> Any:  # noqa: ANN401
    padding = op.multiply(op.subtract(mask, op.constant(np.float32(1))), op.constant(np.float32(1e9)))
    return op.reduce_max(op.add(hidden, op.unsqueeze(padding, _axes(2))), _axes(1), keep_dims=False)


def _lasttoken(hidden: Any, mask: Any) -> Any:  # noqa: ANN401
    count = op.convert(op.reduce_sum(mask, _axes(1), keep_dims=True), "i64")
    last = op.maximum(op.subtract(count, op.constant(np.int64(1))), op.constant(np.int64(0)))
    return op.squeeze(op.gather(hidden, last, op.constant(np.int64(1)), batch_dims=1), _axes(1))


_POOLINGS: dict[str, Callable[[Any, Any], Any]] = {
    "cls": _cls,
    "lasttoken": _lasttoken,
    "max": _max,
    "mean": _mean,
    "weightedmean": _weightedmean,
}


def _dense(vector: Any, dense: DenseSpec, folder: Path) -> Any:  # noqa: ANN401
    weights = read_dense(folder, dense)
    out = op.matmul(vector, op.constant(weights["linear.weight"]), transpose_a=False, transpose_b=True)
    if dense.bias:
        out = op.add(out, op.constant(weights["linear.bias"]))
    return _ACTIVATIONS[dense.activation](out)


def _axes(axis: int) -> Any:  # noqa: ANN401
    return op.constant(np.array([axis], np.int64))
