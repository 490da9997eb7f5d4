"""BERT and its kin in float32 by numpy: the weights under one set of names, and the exact forward pass.

It calibrates and judges the native engine's 8 bits where no torch is installed, so it is written to be read.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from nimbed._model_folder.weights import read_network
from nimbed.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from nimbed._model_folder.network import EncoderShape
    from nimbed._types import Float32Array, Int32Array, Pooling

    Weights = Mapping[str, Float32Array]
    # Sees the input [tokens, width] of each product of a layer, by the product's name.
    Watch = Callable[[str, Float32Array], None]

_WORDS = "embeddings.word_embeddings.weight"
_TABLES = {"words", "positions", "types", "relative"}
_EMBEDDINGS = {
    "words": _WORDS,
    "positions": "embeddings.position_embeddings.weight",
    "types": "embeddings.token_type_embeddings.weight",
    "norm.weight": "embeddings.LayerNorm.weight",
    "norm.bias": "embeddings.LayerNorm.bias",
}
# our name -> theirs, within a layer
_BERT = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "output": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "up": "intermediate.dense",
    "down": "output.dense",
    "output_norm": "output.LayerNorm",
}
_MPNET = {
    **_BERT,
    "query": "attention.attn.q",
    "key": "attention.attn.k",
    "value": "attention.attn.v",
    "output": "attention.attn.o",
    "attention_norm": "attention.LayerNorm",
}
_DISTIL = {
    "query": "attention.q_lin",
    "key": "attention.k_lin",
    "value": "attention.v_lin",
    "output": "attention.out_lin",
    "attention_norm": "sa_layer_norm",
    "up": "ffn.lin1",
    "down": "ffn.lin2",
    "output_norm": "output_layer_norm",
}


def read_weights(network: Path, shape: EncoderShape) -> dict[str, Float32Array]:
    """All weights that an encoder needs, float32: ``words``, ``norm.bias``, ``layers.0.query.weight`` and so on.

    Args:
        network: ``model.safetensors``, or the ``.index.json`` of its parts.
        shape: what the weights must fit.

    Raises:
        SpecError: one is missing, not finite, or has another shape.
    """
    found = {_renamed(name): values for name, values in read_network(network).items()}
    prefix = next((name.removesuffix(_WORDS) for name in found if name.endswith(_WORDS)), "")
    wanted = _names(shape)
    if shape.architecture in {"distilbert", "mpnet"}:
        del wanted["types"]
    if shape.relative:
        wanted["relative"] = "encoder.relative_attention_bias.weight"
    if missing := [theirs for theirs in wanted.values() if prefix + theirs not in found]:
        raise SpecError(f"{network} lacks {prefix}{missing[0]} (and {len(missing) - 1} more)")
    weights = {ours: found[prefix + theirs].astype(np.float32) for ours, theirs in wanted.items()}
    _check(weights, shape, network)
    weights.setdefault("types", np.zeros((1, shape.hidden), np.float32))
    return weights


def _renamed(name: str) -> str:
    """LayerNorm's parameters had TensorFlow's names in the first BERTs, and transformers still writes them at times."""
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")


def _names(shape: EncoderShape) -> dict[str, str]:
    distil = shape.architecture == "distilbert"
    tables = {"distilbert": _DISTIL, "mpnet": _MPNET}
    table, layers = tables.get(shape.architecture, _BERT), "transformer.layer" if distil else "encoder.layer"
    names = dict(_EMBEDDINGS)
    for i in range(shape.layers):
        for ours, theirs in table.items():
            for part in ("weight", "bias"):
                names[f"layers.{i}.{ours}.{part}"] = f"{layers}.{i}.{theirs}.{part}"
    return names


def _check(weights: Weights, shape: EncoderShape, network: Path) -> None:
    hidden, inner = shape.hidden, shape.intermediate
    shapes = {"up.weight": (inner, hidden), "up.bias": (inner,), "down.weight": (hidden, inner)}
    for name, values in weights.items():
        if name in _TABLES:
            columns = shape.heads if name == "relative" else hidden
            wanted: tuple[int, ...] = (shape.rows.get(name, len(values)), columns)
        else:
            square = name.endswith("weight") and "norm" not in name
            wanted = shapes.get(name.partition(".")[2].partition(".")[2], (hidden, hidden) if square else (hidden,))
        if values.shape != wanted:
            raise SpecError(f"{network}: {name} has the shape {values.shape}, not {wanted}")


def forward(weights: Weights, shape: EncoderShape, ids: Int32Array) -> Float32Array:
    """Token vectors ``[tokens, hidden]`` of one text (Devlin et al. 2019), all of its segment ids 0."""
    x = embedded(weights, shape, ids)
    for number in range(shape.layers):
        x = through_layer(weights, shape, number, x)
    return x


def embedded(weights: Weights, shape: EncoderShape, ids: Int32Array) -> Float32Array:
    """What goes into the first layer, ``[tokens, hidden]``."""
    counted = ids != shape.padding
    positions = np.where(counted, np.cumsum(counted) + shape.padding, shape.padding)
    x = weights["words"][ids] + weights["positions"][positions] + weights["types"][0]
    return _layer_norm(x, weights, "norm", shape.epsilon)


def through_layer(
    weights: Weights, shape: EncoderShape, number: int, x: Float32Array, watch: Watch | None = None
) -> Float32Array:
    """The token vectors ``[tokens, hidden]`` of one text after a layer."""
    name = f"layers.{number}."
    product = partial(_product, weights, watch, name)
    nearness = by_distance(weights["relative"], len(x)) if shape.relative else None
    q, k, v = (product(part, x) for part in ("query", "key", "value"))
    mixed = product("output", _attention(q, k, v, shape.heads, nearness))
    x = _layer_norm(x + mixed, weights, name + "attention_norm", shape.epsilon)
    wide = product("up", x)
    wide = gelu(wide) if shape.activation == "gelu" else np.maximum(wide, 0)
    return _layer_norm(x + product("down", wide), weights, name + "output_norm", shape.epsilon)


def _product(weights: Weights, watch: Watch | None, layer: str, part: str, x: Float32Array) -> Float32Array:
    if watch is not None:
        watch(part, x)
    y: Float32Array = x @ weights[f"{layer}{part}.weight"].T + weights[f"{layer}{part}.bias"]
    return y


def _attention(
    q: Float32Array, k: Float32Array, v: Float32Array, heads: int, nearness: Float32Array | None
) -> Float32Array:
    """What each token takes from all, ``[tokens, hidden]``."""
    tokens = len(q)
    q, k, v = (part.reshape(tokens, heads, -1).swapaxes(0, 1) for part in (q, k, v))
    scores = q @ k.swapaxes(1, 2) / np.float32(np.sqrt(q.shape[-1]))
    if nearness is not None:
        scores += nearness[:, np.arange(tokens) - np.arange(tokens)[:, None] + tokens]
    context: Float32Array = (_softmax(scores) @ v).swapaxes(0, 1).reshape(tokens, -1)
    return context


def by_distance(table: Float32Array, longest: int) -> Float32Array:
    """What a score gets for a key's distance from its query, ``[heads, 2 * longest]``, distance 0 at ``longest``.

    ``table``: a row a bucket, ``[buckets, heads]``. Half of the buckets are for keys that come later; of each half the
    first half are distances of their own, the others grow to 128 by equal ratios (Raffel et al. 2020, T5).
    """
    half = len(table) // 2
    exact = half // 2
    distance = np.arange(-longest, longest)
    size = np.abs(distance)
    ratio = np.log(np.maximum(size, 1).astype(np.float32) / exact) / np.log(128 / exact)
    bucket = np.where(size < exact, size, np.minimum(exact + (ratio * (half - exact)).astype(int), half - 1))
    nearness: Float32Array = table[bucket + half * (distance > 0)].T
    return nearness


def pooled(hidden: Float32Array, pooling: Pooling, *, normalize: bool) -> Float32Array:
    """One vector ``[hidden]`` of token vectors ``[tokens, hidden]``."""
    choices = {"cls": lambda: hidden[0], "lasttoken": lambda: hidden[-1], "max": lambda: hidden.max(axis=0)}
    vector: Float32Array = choices.get(pooling, lambda: hidden.mean(axis=0))()
    return vector / max(np.linalg.norm(vector), np.float32(1e-12)) if normalize else vector


def _layer_norm(x: Float32Array, weights: Weights, name: str, epsilon: float) -> Float32Array:
    centred = x - x.mean(axis=-1, keepdims=True)
    deviation = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + np.float32(epsilon))
    y: Float32Array = centred / deviation * weights[name + ".weight"] + weights[name + ".bias"]
    return y


def _softmax(scores: Float32Array) -> Float32Array:
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    y: Float32Array = powers / powers.sum(axis=-1, keepdims=True)
    return y


def gelu(x: Float32Array) -> Float32Array:
    """``x Phi(x)`` (Hendrycks and Gimpel 2016), erf within 1.5e-7 (Abramowitz and Stegun 1964, 7.1.26)."""
    size = np.abs(x) * np.float32(np.sqrt(0.5))
    t = 1 / (1 + np.float32(0.3275911) * size)
    terms = (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)
    series = np.zeros_like(t)
    for term in terms:
        series = (series + np.float32(term)) * t
    erf = np.sign(x) * (1 - series * np.exp(-size * size))
    y: Float32Array = x * np.float32(0.5) * (1 + erf)
    return y
