"""Gemma 3's text network (Gemma Team 2025): norms on both sides of a branch, local layers between global ones.

EmbeddingGemma reads in both directions; others read what is before a token.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from nimbed._model_folder.networks.config import expect, function_of, width_of
from nimbed._model_folder.networks.description import AttentionKind, Network
from nimbed._model_folder.networks.family import Family, norm
from nimbed._model_folder.networks.pre_norm import head_dim, locate_pre_norm, longest_of, pre_norm
from nimbed._model_folder.networks.rotary import rotary_of

if TYPE_CHECKING:
    from collections.abc import Collection

    from nimbed._files.json import Fields
    from nimbed._model_folder.networks.family import Array, Source, Sources
    from nimbed._types import ModelSpec

_GLOBAL, _LOCAL = "full_attention", "sliding_attention"
# transformers' names -> the older key of its base, and that base.
_THETA = {_GLOBAL: ("rope_theta", 1_000_000.0), _LOCAL: ("rope_local_base_freq", 10_000.0)}


def _describe(config: Fields, spec: ModelSpec) -> Network:
    expect(config, "attention_bias", False)
    for key in ("attn_logit_softcapping", "final_logit_softcapping"):
        expect(config, key)
    kinds = _layer_types(config)
    epsilon = config.number("rms_norm_eps", default=1e-6, minimum=0)
    attention = {kind: _attention(config, kind) for kind in set(kinds)}
    return Network(
        **pre_norm(config, epsilon, attention, kinds, after=True),
        family="gemma3",
        activation=function_of(config, "hidden_activation", "gelu_pytorch_tanh"),
        head_norm=epsilon,
        max_length=longest_of(config, 131_072),
        pooling=spec.pooling,
    )


def _layer_types(config: Fields) -> list[str]:
    """Each layer's, as the newer configs list them, or every n-th is global."""
    layers, types = width_of(config, "num_hidden_layers"), config.get("layer_types")
    if types is None:
        every = width_of(config, "sliding_window_pattern", default=6)
        return [_LOCAL if (i + 1) % every else _GLOBAL for i in range(layers)]
    if not isinstance(types, list) or len(types) != layers or any(one not in _THETA for one in map(str, types)):
        raise config.wrong("layer_types", f"a list of {layers} times {_GLOBAL} or {_LOCAL}")
    return types


def _attention(config: Fields, kind: str) -> AttentionKind:
    """A local layer reads a window: in both directions half of it to each side, else that which ends at the token."""
    both = config.flag("use_bidirectional_attention", default=False)
    rotary = _rotary(config, kind)
    if kind == _GLOBAL:
        return AttentionKind(ahead=None if both else 0, rotary=rotary)
    window = width_or_window(config)
    return AttentionKind(back=window // 2 if both else window - 1, ahead=window // 2 if both else 0, rotary=rotary)


def width_or_window(config: Fields) -> int:
    """Tokens of a local layer's window."""
    return config.whole("sliding_window", default=4096, minimum=1)


def _rotary(config: Fields, kind: str) -> tuple[float, ...]:
    key, default = _THETA[kind]
    newer = config.fields("rope_parameters", default=None)
    newer = newer.fields(kind, default=None) if newer is not None else None
    if kind == _LOCAL or newer is not None:
        theta = config.number(key, default=default, minimum=1)
        if newer is None:
            return rotary_of_theta(theta, head_dim(config))
        expect(newer, "rope_type", "default")
        return rotary_of_theta(newer.number("rope_theta", default=theta, minimum=1), head_dim(config))
    return rotary_of(config, head_dim(config), default)


def rotary_of_theta(theta: float, width: int) -> tuple[float, ...]:
    """Unscaled frequencies."""
    from nimbed._model_folder.networks.rotary import frequencies

    return frequencies(theta, width)


def _locate(network: Network, config: Fields, _: Collection[str]) -> Sources:
    """Norms multiply by one more than their weights, words by the root of the width."""
    found = locate_pre_norm(network, before="pre_feedforward_layernorm")
    for number in range(network.layers):
        layer = f"layers.{number}."
        found |= norm(f"{layer}attention_norm.after", f"{layer}post_attention_layernorm", network.hidden, bias=False)
        found |= norm(f"{layer}output_norm.after", f"{layer}post_feedforward_layernorm", network.hidden, bias=False)
    scale = (network.head_dim / config.number("query_pre_attn_scalar", default=256.0, minimum=1)) ** 0.5
    for name, source in found.items():
        if name.endswith("query_norm.weight"):
            found[name] = _folded(source, np.float32(1), np.float32(scale))
        elif name.endswith(("norm.weight", "after.weight")):
            found[name] = _folded(source, np.float32(1), np.float32(1))
    found["words"] = _folded(found["words"], np.float32(0), np.float32(network.hidden**0.5))
    return found


def _folded(source: Source, added: np.float32, factor: np.float32) -> Source:
    def fold(tensor: Array) -> Array:
        return (tensor.astype(np.float32) + added) * factor

    return replace(source, fold=fold)


GEMMA3 = Family(
    name="gemma3",
    types=("gemma3_text",),
    honours=frozenset(
        {
            *("head_dim", "layer_types", "num_key_value_heads", "rope_parameters", "rope_scaling", "sliding_window"),
        }
    ),
    describe=_describe,
    locate=_locate,
)
