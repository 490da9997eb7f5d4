"""GTE (Zhang et al. 2024): transformers' ``gte``, and Alibaba's ``new``, which came with code of its own."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from nimbed._model_folder.networks.bert import EPSILON
from nimbed._model_folder.networks.config import expect, function_of, tokens_of
from nimbed._model_folder.networks.description import AttentionKind, Network
from nimbed._model_folder.networks.family import TABLES, Family, Names, encoder
from nimbed._model_folder.networks.heads import classifier, two_layers
from nimbed._model_folder.networks.nomic_bert import SPLIT
from nimbed._model_folder.networks.post_norm import post_norm, sizes_of
from nimbed._model_folder.networks.rotary import rotary_of

if TYPE_CHECKING:
    from collections.abc import Collection

    from nimbed._files.json import Fields
    from nimbed._model_folder.networks.family import Sources
    from nimbed._types import ModelSpec

_UNBIASED = ("gate", "up")
_SPLIT = replace(SPLIT, unbiased=_UNBIASED)
_NEW = Names(
    tables=TABLES,
    layer="encoder.layer.{}.",
    parts={
        "query+key+value": "attention.qkv_proj",
        "output": "attention.o_proj",
        "attention_norm": "attn_ln",
        "up+gate": "mlp.up_gate_proj",
        "down": "mlp.down_proj",
        "output_norm": "mlp_ln",
    },
    unbiased=_UNBIASED,
)
_APART = replace(
    _NEW,
    parts={
        **{part: f"attention.{part[0]}_proj" for part in ("query", "key", "value")},
        **{ours: theirs for ours, theirs in _NEW.parts.items() if ours != "query+key+value"},
    },
)


def _describe(config: Fields, spec: ModelSpec) -> Network:
    sizes = sizes_of(config)
    expect(config, "position_embedding_type", "rope")
    new = config["model_type"] == "new"
    attention = AttentionKind(rotary=rotary_of(config, sizes.head_dim, 10_000.0 if new else 160_000.0, ntk=True))
    return Network(
        **post_norm(sizes, config.number("layer_norm_eps", default=EPSILON, minimum=0), attention),
        family="gte",
        activation=function_of(config, "hidden_act"),
        gated=True,
        vocabulary=config.whole("vocab_size", default=30528 if new else 250048, minimum=1),
        types=config.whole("type_vocab_size", default=1) or None,
        max_length=tokens_of(config, *_longest(config)),
        pooling=spec.pooling,
        head=classifier(config, spec, sizes.hidden, "tanh"),
    )


def _longest(config: Fields) -> tuple[str, int]:
    return "max_position_embeddings", 2048 if config["model_type"] == "new" else 8192


def _locate(network: Network, _: Fields, found: Collection[str]) -> Sources:
    if any("encoder.layer." in name for name in found):
        names = _APART if any("attention.q_proj" in name for name in found) else _NEW
    else:
        names = _SPLIT
    return {**encoder(network, names), **two_layers(network, "pooler.dense", "classifier")}


GTE = Family(
    name="gte",
    types=("gte", "new"),
    classes=("Gte", "New"),
    honours=frozenset({"position_embedding_type", "rope_parameters", "rope_scaling"}),
    longest=_longest,
    describe=_describe,
    locate=_locate,
)
