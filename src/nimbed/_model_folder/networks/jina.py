"""Jina's networks: JinaBERT v2 (Günther et al. 2023) with ALiBi and gates; jina-embeddings-v3 (Sturua et al. 2024)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from nimbed._files.json import shown
from nimbed._model_folder.networks.bert import EPSILON, PARTS, TYPES
from nimbed._model_folder.networks.config import expect, function_of, tokens_of
from nimbed._model_folder.networks.description import AttentionKind, Network
from nimbed._model_folder.networks.family import LONGEST, TABLES, Family, Names, encoder
from nimbed._model_folder.networks.nomic_bert import SPLIT
from nimbed._model_folder.networks.post_norm import post_norm, sizes_of
from nimbed._model_folder.networks.rotary import frequencies, rotary_of
from nimbed.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Collection

    from nimbed._files.json import Fields
    from nimbed._model_folder.networks.description import Function
    from nimbed._model_folder.networks.family import Sources
    from nimbed._types import ModelSpec

_GATED_PARTS = {
    **{ours: theirs for ours, theirs in PARTS.items() if ours not in {"up", "down", "output_norm"}},
    "gate+up": "mlp.gated_layers",
    "down": "mlp.wo",
    "output_norm": "mlp.layernorm",
}
_V2 = Names(tables=TABLES, layer="encoder.layer.{}.", parts=PARTS)
_V2_GATED = Names(tables=TABLES, layer="encoder.layer.{}.", parts=_GATED_PARTS, unbiased=("gate",))
_FEED_FORWARD: dict[str, Function] = {"geglu": "gelu", "reglu": "relu"}


def _describe_v2(config: Fields, spec: ModelSpec) -> Network:
    # A later implementation of the same name norms queries and keys.
    if "qk-post-norm" in (code := shown(config.get("auto_map"))):
        raise SpecError(
            f"{config.where}: auto_map: {code}: norms of queries and keys are not honoured by the native engine"
        )
    sizes = sizes_of(config)
    expect(config, key := "feed_forward_type", "original", *_FEED_FORWARD)
    gate = _FEED_FORWARD.get(config.text(key, default="original"))
    epsilon = config.number("layer_norm_eps", default=EPSILON, minimum=0)
    return Network(
        **post_norm(sizes, epsilon, AttentionKind(distances="alibi")),
        family="jina_bert_v2",
        activation=gate or function_of(config, "hidden_act"),
        gated=gate is not None,
        vocabulary=config.whole("vocab_size", default=30522, minimum=1),
        types=config.whole("type_vocab_size", default=TYPES) or None,
        max_length=tokens_of(config, *LONGEST),
        pooling=spec.pooling,
    )


def _locate_v2(network: Network, _: Fields, __: Collection[str]) -> Sources:
    return encoder(network, _V2_GATED if network.gated else _V2)


_V3_SPLIT = replace(
    SPLIT,
    parts={
        **{ours: theirs for ours, theirs in SPLIT.parts.items() if ours != "gate"},
        "up": "mlp.fc1",
        "down": "mlp.fc2",
    },
)
_V3_JOINED = Names(
    tables=TABLES,
    embedding_norm="emb_ln",
    layer="encoder.layers.{}.",
    parts={
        "query+key+value": "mixer.Wqkv",
        "output": "mixer.out_proj",
        "attention_norm": "norm1",
        "up": "mlp.fc1",
        "down": "mlp.fc2",
        "output_norm": "norm2",
    },
)


def _longest_v3(config: Fields) -> tuple[str, int]:
    return LONGEST if config["model_type"] == "xlm-roberta" else ("max_position_embeddings", 8194)


def _describe_v3(config: Fields, spec: ModelSpec) -> Network:
    own, sizes = config["model_type"] == "xlm-roberta", sizes_of(config)
    expect(config, "rotary_emb_dim", sizes.head_dim)
    if own:
        expect(config, "rope_parameters")
        expect(config, "use_reg_tokens", False)
        turns = frequencies(config.number("rotary_emb_base", default=10_000.0, minimum=1), sizes.head_dim)
    else:
        turns = rotary_of(config, sizes.head_dim, 20_000.0)
    epsilon = config.number("layer_norm_eps", default=EPSILON if own else 1e-5, minimum=0)
    return Network(
        **post_norm(sizes, epsilon, AttentionKind(rotary=turns)),
        family="jina_v3",
        activation=function_of(config, "hidden_act"),
        vocabulary=config.whole("vocab_size", default=30522 if own else 250002, minimum=1),
        types=config.whole("type_vocab_size", default=TYPES if own else 1) or None,
        max_length=tokens_of(config, *_longest_v3(config)),
        pooling=spec.pooling,
    )


def _locate_v3(network: Network, _: Fields, found: Collection[str]) -> Sources:
    return encoder(network, _V3_JOINED if any("encoder.layers." in name for name in found) else _V3_SPLIT)


JINA_BERT_V2 = Family(
    name="jina_bert_v2",
    types=("bert",),
    classes=("JinaBert",),
    applies=lambda config: config.get("position_embedding_type") == "alibi",
    honours=frozenset({"feed_forward_type", "position_embedding_type"}),
    describe=_describe_v2,
    locate=_locate_v2,
)
JINA_V3 = Family(
    name="jina_v3",
    types=("jina_embeddings_v3", "xlm-roberta"),
    classes=("XLMRoberta",),
    applies=lambda config: config["model_type"] != "xlm-roberta" or config.get("position_embedding_type") == "rotary",
    honours=frozenset({"lora_adaptations", "position_embedding_type", "rope_parameters", "rotary_emb_dim"}),
    longest=_longest_v3,
    describe=_describe_v3,
    locate=_locate_v3,
)
