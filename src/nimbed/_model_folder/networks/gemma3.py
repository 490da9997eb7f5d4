"""Gemma 3's text network (Gemma Team 2025): norms on both sides of a branch, local layers between global ones.

EmbeddingGemma reads in both directions; others read what is before a token.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from nimbed._model_folder.networks.config import count_of, expect, expect_causal, function_of, tokens_of, width_of
from nimbed._model_folder.networks.description import AttentionKind, Network
from nimbed._model_folder.networks.family import Family, norm
from nimbed._model_folder.networks.layer_types import GLOBAL, LOCAL, layer_types, turns_of
from nimbed._model_folder.networks.pre_norm import KEYS, head_dim, locate_pre_norm, pre_norm

if TYPE_CHECKING:
    from collections.abc import Collection

    from nimbed._files.json import Fields
    from nimbed._model_folder.networks.family import Array, Source, Sources
    from nimbed._types import ModelSpec

# The older key of each type's base, and that base.
_THETA = {GLOBAL: ("rope_theta", 1_000_000.0), LOCAL: ("rope_local_base_freq", 10_000.0)}
_LONGEST = ("max_position_embeddings", 131_072)


def _describe(config: Fields, spec: ModelSpec) -> Network:
    expect(config, "attention_bias", False)
    expect_causal(config)
    for key in ("attn_logit_softcapping", "final_logit_softcapping"):
        expect(config, key)
    kinds = layer_types(config, _pattern(config))
    epsilon = config.number("rms_norm_eps", default=1e-6, minimum=0)
    attention = {kind: _attention(config, kind) for kind in set(kinds)}
    return Network(
        **pre_norm(config, spec, epsilon, attention, kinds, after=True),
        family="gemma3",
        activation=function_of(config, "hidden_activation", "gelu_pytorch_tanh"),
        head_norm=epsilon,
        max_length=tokens_of(config, *_LONGEST),
    )


def _pattern(config: Fields) -> list[str]:
    """Every n-th is global."""
    every = width_of(config, "sliding_window_pattern", default=6)
    return [LOCAL if (i + 1) % every else GLOBAL for i in range(count_of(config, "num_hidden_layers"))]


def _attention(config: Fields, kind: str) -> AttentionKind:
    """A local layer reads a window: in both directions half of it to each side, else that which ends at the token."""
    both, window = config.flag("use_bidirectional_attention", default=False), None
    if kind == LOCAL:
        window = tokens_of(config, "sliding_window", 4096)
        window = window // 2 if both else window - 1
    return AttentionKind(
        back=window, ahead=window if both else 0, rotary=turns_of(config, kind, _THETA, head_dim(config))
    )


def _locate(network: Network, config: Fields, names: Collection[str]) -> Sources:
    """Norms multiply by one more than their weights, words by the root of the width."""
    found = locate_pre_norm(network, config, names, before="pre_feedforward_layernorm")
    for number in range(network.layers):
        for ours, theirs in (("attention", "attention"), ("output", "feedforward")):
            name = f"layers.{number}.post_{theirs}_layernorm"
            found |= norm(f"layers.{number}.{ours}_norm.after", name, network.hidden, bias=False)
    scalar = config.number("query_pre_attn_scalar", default=256.0, minimum=1)
    for name, source in found.items():
        if name.endswith(("norm.weight", "after.weight")):
            # The engine divides scores by the root of the head's width.
            scale = (network.head_dim / scalar) ** 0.5 if "query_norm" in name else 1.0
            found[name] = _folded(source, 1.0, scale)
    found["words"] = _folded(found["words"], 0.0, network.hidden**0.5)
    return found


def _folded(source: Source, added: float, factor: float) -> Source:
    def fold(tensor: Array) -> Array:
        folded: Array = (tensor.astype(np.float32) + np.float32(added)) * np.float32(factor)
        return folded

    return replace(source, fold=fold)


GEMMA3 = Family(
    name="gemma3",
    types=("gemma3_text",),
    honours=frozenset({*KEYS, "is_causal", "layer_types", "sliding_window"}),
    longest=lambda _: _LONGEST,
    describe=_describe,
    locate=_locate,
)
