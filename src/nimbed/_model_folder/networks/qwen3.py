"""Qwen3 (Yang et al. 2025): a decoder whose queries and keys are normed, each token reading those before it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nimbed._model_folder.networks.config import count_of, expect, function_of, tokens_of
from nimbed._model_folder.networks.description import AttentionKind, Network
from nimbed._model_folder.networks.family import Family
from nimbed._model_folder.networks.layer_types import GLOBAL
from nimbed._model_folder.networks.pre_norm import KEYS, head_dim, locate_pre_norm, pre_norm
from nimbed._model_folder.networks.rotary import rotary_of

if TYPE_CHECKING:
    from nimbed._files.json import Fields
    from nimbed._types import ModelSpec

_LONGEST = ("max_position_embeddings", 32_768)


def _describe(config: Fields, spec: ModelSpec) -> Network:
    layers = count_of(config, "num_hidden_layers")
    expect(config, "attention_bias", False)
    expect(config, "use_sliding_window", False)
    expect(config, "layer_types", [GLOBAL] * layers)
    expect(config, "is_causal", True)
    kind = AttentionKind(ahead=0, rotary=rotary_of(config, head_dim(config), 1_000_000.0))
    epsilon = config.number("rms_norm_eps", default=1e-6, minimum=0)
    return Network(
        **pre_norm(config, spec, epsilon, {GLOBAL: kind}, [GLOBAL] * layers),
        family="qwen3",
        activation=function_of(config, "hidden_act", "silu"),
        head_norm=epsilon,
        max_length=tokens_of(config, *_LONGEST),
    )


QWEN3 = Family(
    name="qwen3",
    types=("qwen3",),
    honours=frozenset({*KEYS, "is_causal", "layer_types", "rope_scaling", "sliding_window"}),
    longest=lambda _: _LONGEST,
    describe=_describe,
    locate=locate_pre_norm,
)
