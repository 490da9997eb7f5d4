"""EuroBERT (Boizard et al. 2025): Llama's layers, which read in both directions."""

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

_LONGEST = ("max_position_embeddings", 8192)


def _describe(config: Fields, spec: ModelSpec) -> Network:
    for key in ("attention_bias", "mlp_bias"):
        expect(config, key, False)
    theta = 250_000.0 if "auto_map" in config else 10_000.0  # the first is that of the code that such a folder brings
    kind = AttentionKind(rotary=rotary_of(config, head_dim(config), theta))
    epsilon = config.number("rms_norm_eps", default=1e-5, minimum=0)
    return Network(
        **pre_norm(config, spec, epsilon, {GLOBAL: kind}, [GLOBAL] * count_of(config, "num_hidden_layers")),
        family="eurobert",
        activation=function_of(config, "hidden_act", "silu"),
        max_length=tokens_of(config, *_LONGEST),
    )


EUROBERT = Family(
    name="eurobert",
    types=("eurobert",),
    classes=("EuroBert",),
    honours=frozenset({*KEYS, "rope_scaling"}),
    longest=lambda _: _LONGEST,
    describe=_describe,
    locate=locate_pre_norm,
)
