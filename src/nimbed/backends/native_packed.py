"""What the native engine is opened with: a network's weights as its arrays in fp32, and its settings."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from nimbed.backends.native_layout import LINE, PRODUCTS, Layout, Widths, padded, panels, placed
from nimbed.backends.native_positions import by_alibi, by_bucket, rotation

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nimbed._model_folder.networks.description import AttentionKind, Network, NormStep
    from nimbed._types import Float32Array, ModelSpec, Precision

    Array = np.ndarray[Any, np.dtype[Any]]
    Weights = Mapping[str, Float32Array]

# Inputs that are rounded together, in 8 bits: behind attention and behind an activation some are much larger than the
# others, and so are a few of a norm's channels, smoothed or not. Each halving costs a product about 8 % of its time. Of
# 1 - cosine, groups of 384 leave all-MiniLM-L6-v2's vectors 2.9e-4 on average, of 192 2.0e-4 and of 128 1.6e-4; and the
# worst of all-mpnet-base-v2's 1.8e-3, 1.1e-3 and 0.7e-3.
GROUP = 128
_UNLIMITED = -1


def settings_of(network: Network, spec: ModelSpec, *, precision: Precision = "fp32") -> dict[str, Any]:
    """What the engine must know besides its arrays.

    Args:
        network: the description.
        spec: of the folder.
        precision: of the products; inputs in 8 bits are rounded once, and words are fp32.
    """
    widths = Widths.of(network)
    return {
        "precision": precision,
        "size": network.hidden,
        "inner": widths.inner,
        "head_dim": widths.head_dim,
        "group_heads": widths.group_heads,
        "queries": widths.queries,
        "head_groups": widths.head_groups,
        "vocabulary": network.vocabulary,
        "words": "fp32",
        "positions": network.positions or 0,
        "types": network.types or 0,
        "max_length": network.max_length,
        "padding": network.padding,
        "activation": network.activation,
        "gated": network.gated,
        "embedding_norm": asdict(network.embedding_norm),
        "attention": [_attention_settings(kind) for kind in network.attention],
        "layers": [_layer_settings(network, number) for number in range(network.layers)],
        "pooling": network.pooling,
        "normalize": spec.normalize,
        "head": _head_settings(network),
    }


def _attention_settings(kind: AttentionKind) -> dict[str, Any]:
    return {
        "back": _UNLIMITED if kind.back is None else kind.back,
        "ahead": _UNLIMITED if kind.ahead is None else kind.ahead,
        "rotary": kind.rotary is not None,
        "distances": kind.distances is not None,
    }


def _layer_settings(network: Network, number: int) -> dict[str, Any]:
    return {
        "attention": network.attention_of[number],
        "query_norm": _head_norm_settings(network),
        "key_norm": _head_norm_settings(network),
        "attention_norm": asdict(network.attention_norms[number]),
        "output_norm": asdict(network.output_norms[number]),
        **{product: {"group": GROUP, "passes": 1} for product in PRODUCTS},
    }


def _head_norm_settings(network: Network) -> dict[str, Any] | None:
    return None if network.head_norm is None else {"size": network.head_dim, "epsilon": network.head_norm}


def _head_settings(network: Network) -> list[dict[str, Any]]:
    inputs = [network.hidden, *(head.outputs for head in network.head)]
    return [{"inputs": width, **asdict(head)} for width, head in zip(inputs, network.head, strict=False)]


def pack(weights: Weights, network: Network) -> dict[str, Array]:
    """The engine's fp32 arrays by name.

    Args:
        weights: by the names of :func:`nimbed._model_folder.networks.reading.read_weights`.
        network: its description.
    """
    layout = Layout(network)
    arrays: dict[str, Array] = {
        name: layout.wide(weights[name], axis=1) for name in ("words", "positions", "types") if name in weights
    }
    arrays |= _norm(layout, weights, "embedding_norm", network.embedding_norm)
    for number, kind in enumerate(network.attention):
        arrays |= _attention(f"attention.{number}", layout, weights, kind)
    for number in range(network.layers):
        arrays |= pack_layer(weights, layout, number)
    return arrays | _heads(weights, network)


def pack_layer(weights: Weights, layout: Layout, number: int) -> dict[str, Array]:
    """The arrays of one layer."""
    name, network = f"layers.{number}", layout.network
    arrays: dict[str, Array] = {}
    for product, (rows, bias) in layer_rows(weights, layout, number).items():
        arrays[f"{name}.{product}.weights"] = panels(rows)
        arrays[f"{name}.{product}.bias"] = bias
    for part, steps in (("attention_norm", network.attention_norms), ("output_norm", network.output_norms)):
        arrays |= _norm(layout, weights, f"{name}.{part}", steps[number])
    if network.head_norm is not None:
        arrays[f"{name}.query_norm"] = layout.head(weights[f"{name}.query_norm.weight"] * _score_scale(network))
        arrays[f"{name}.key_norm"] = layout.head(weights[f"{name}.key_norm.weight"])
    return arrays


def layer_rows(weights: Weights, layout: Layout, number: int) -> dict[str, tuple[Float32Array, Float32Array]]:
    """A layer's products in their places: weights ``[outputs, inputs]`` and bias ``[outputs]``, by product."""

    def part(name: str, kind: str) -> Float32Array:
        return weights[f"layers.{number}.{name}.{kind}"]

    # The scores' divisor goes into the queries, or into what norms them.
    scale = _score_scale(layout.network) if layout.network.head_norm is None else np.array(1, np.float32)

    def projection(kind: str) -> Float32Array:
        return layout.projection(part("query", kind) * scale, part("key", kind), part("value", kind))

    def up(kind: str) -> Float32Array:
        return layout.up(part("up", kind), part("gate", kind) if layout.network.gated else None)

    wide, weight, bias = layout.wide, "weight", "bias"
    return {
        "projection": (wide(projection(weight), axis=1), projection(bias)),
        "output": (layout.context(wide(part("output", weight)), axis=1), wide(part("output", bias))),
        "up": (wide(up(weight), axis=1), up(bias)),
        "down": (layout.inner(wide(part("down", weight)), axis=1), wide(part("down", bias))),
    }


def _score_scale(network: Network) -> Float32Array:
    return np.array(network.head_dim**-0.5, np.float32)


def _norm(layout: Layout, weights: Weights, name: str, step: NormStep) -> dict[str, Array]:
    arrays: dict[str, Array] = {}
    for norm in (name,) if step.after is None else (name, f"{name}.after"):
        values = {"gamma": weights[f"{norm}.weight"], "beta": weights[f"{norm}.bias"]}
        values["smooth"] = np.ones(layout.network.hidden, np.float32)
        arrays |= {f"{norm}.{part}": layout.wide(value) for part, value in values.items()}
    return arrays


def _heads(weights: Weights, network: Network) -> dict[str, Array]:
    """The layers behind the pooling."""
    arrays: dict[str, Array] = {}
    for i, head in enumerate(network.head):
        name, rows = f"head.{i}", weights[f"head.{i}.weight"]
        outputs, inputs = (padded(size) for size in rows.shape)
        wide = placed(placed(rows, slice(0, rows.shape[1]), inputs, axis=1), slice(0, rows.shape[0]), outputs)
        vectors = {"bias": weights[f"{name}.bias"]}
        if head.norm is not None:
            vectors |= {"norm.gamma": weights[f"{name}.norm.weight"], "norm.beta": weights[f"{name}.norm.bias"]}
        arrays[f"{name}.weights"] = panels(wide)
        arrays |= {f"{name}.{part}": placed(v, slice(0, len(v)), outputs) for part, v in vectors.items()}
    return arrays


def _attention(name: str, layout: Layout, weights: Weights, kind: AttentionKind) -> dict[str, Array]:
    """What a kind of attention turns by and adds, for texts of any length that the network takes."""
    arrays: dict[str, Array] = {}
    network, longest = layout.network, layout.network.max_length
    if kind.rotary is not None:
        arrays[f"{name}.rotation"] = rotation(kind.rotary, longest, layout.widths.head_dim)
    if kind.distances is not None:
        added = (
            by_alibi(network.heads, longest)
            if kind.distances == "alibi"
            else by_bucket(np.asarray(weights["distances"]), longest)
        )
        arrays[f"{name}.distances"] = placed(added, slice(0, 2 * longest), padded(2 * longest + LINE, LINE), axis=1)
    return arrays
