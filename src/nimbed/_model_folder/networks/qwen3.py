"""Qwen3 (Yang et al. 2025): a decoder whose queries and keys are normed, each token reading those before it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nimbed._model_folder.networks.config import count_of, expect, expect_causal, function_of, labels_of, tokens_of
from nimbed._model_folder.networks.description import AttentionKind, Head, Network
from nimbed._model_folder.networks.family import Family, linear
from nimbed._model_folder.networks.layer_types import GLOBAL
from nimbed._model_folder.networks.pre_norm import KEYS, head_dim, locate_pre_norm, pre_norm
from nimbed._model_folder.networks.rotary import rotary_of

if TYPE_CHECKING:
    from collections.abc import Collection

    from nimbed._files.json import Fields
    from nimbed._model_folder.networks.family import Sources
    from nimbed._types import ModelSpec

_LONGEST = ("max_position_embeddings", 32_768)


def _describe(config: Fields, spec: ModelSpec) -> Network:
    layers = count_of(config, "num_hidden_layers")
    expect(config, "attention_bias", False)
    expect(config, "use_sliding_window", False)
    expect(config, "layer_types", [GLOBAL] * layers)
    expect_causal(config)
    kind = AttentionKind(ahead=0, rotary=rotary_of(config, head_dim(config), 10_000.0))
    epsilon = config.number("rms_norm_eps", default=1e-6, minimum=0)
    return Network(
        **pre_norm(config, spec, epsilon, {GLOBAL: kind}, [GLOBAL] * layers),
        family="qwen3",
        activation=function_of(config, "hidden_act", "silu"),
        head_norm=epsilon,
        max_length=tokens_of(config, *_LONGEST),
        head=_head(config, spec),
    )


def _head(config: Fields, spec: ModelSpec) -> tuple[Head, ...]:
    """The classifier, where the spec says that the network has one."""
    has_one = spec.task == "scoring" and not spec.answers
    return (Head(outputs=labels_of(config), activation="identity"),) if has_one else ()


def _locate(network: Network, config: Fields, names: Collection[str]) -> Sources:
    found = locate_pre_norm(network, config, names)
    for head in network.head:
        found |= linear("head.0", "score", head.outputs, network.hidden, bias=False)
    return found


QWEN3 = Family(
    name="qwen3",
    types=("qwen3",),
    honours=frozenset({*KEYS, "is_causal", "layer_types", "rope_scaling", "sliding_window"}),
    longest=lambda _: _LONGEST,
    describe=_describe,
    locate=_locate,
)
