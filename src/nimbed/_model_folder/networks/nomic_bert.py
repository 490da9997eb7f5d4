"""NomicBERT (Nussbaum et al. 2024), as transformers' class has it and as the code that it came with does."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from nimbed._model_folder.networks.bert import EPSILON, TYPES
from nimbed._model_folder.networks.config import expect, function_of, tokens_of
from nimbed._model_folder.networks.description import AttentionKind, Network
from nimbed._model_folder.networks.family import TABLES, Family, Names, encoder
from nimbed._model_folder.networks.post_norm import post_norm, sizes_of
from nimbed._model_folder.networks.rotary import frequencies, halves, reordered, rotary_of

if TYPE_CHECKING:
    from collections.abc import Collection

    from nimbed._files.json import Fields
    from nimbed._model_folder.networks.description import Function
    from nimbed._model_folder.networks.family import Sources
    from nimbed._types import ModelSpec

# transformers' names, which it has for several networks that came with code of their own.
SPLIT = Names(
    tables=TABLES,
    layer="layers.{}.",
    parts={
        "query": "self_attn.q_proj",
        "key": "self_attn.k_proj",
        "value": "self_attn.v_proj",
        "output": "self_attn.o_proj",
        "attention_norm": "post_attention_layernorm",
        "gate": "mlp.gate_proj",
        "up": "mlp.up_proj",
        "down": "mlp.down_proj",
        "output_norm": "post_mlp_layernorm",
    },
)
_JOINED = Names(
    tables=TABLES,
    embedding_norm="emb_ln",
    layer="encoder.layers.{}.",
    parts={
        "query+key+value": "attn.Wqkv",
        "output": "attn.out_proj",
        "attention_norm": "norm1",
        "up": "mlp.fc11",
        "gate": "mlp.fc12",
        "down": "mlp.fc2",
        "output_norm": "norm2",
    },
)
_OWN_KEYS = {"hidden": "n_embd", "layers": "n_layer", "heads": "n_head", "intermediate": "n_inner"}
_GATES: dict[str, Function] = {"geglu": "gelu", "glu": "sigmoid", "swiglu": "silu"}
_ATTENTION, _UP, _DOWN = ("query", "key", "value", "output"), ("gate", "up"), ("down",)


def _describe(config: Fields, spec: ModelSpec) -> Network:
    return _own(config, spec) if _is_own(config) else _of_transformers(config, spec)


def _is_own(config: Fields) -> bool:
    """Whether a config is of the code that the network came with, which counts GPT-2 among its ancestors."""
    return "n_embd" in config


def _longest(config: Fields) -> tuple[str, int]:
    return ("n_positions", 1024) if _is_own(config) else ("max_position_embeddings", 2048)


def _of_transformers(config: Fields, spec: ModelSpec) -> Network:
    sizes = sizes_of(config)
    expect(config, "head_dim", sizes.head_dim)
    attention = AttentionKind(rotary=rotary_of(config, sizes.head_dim, 1000.0))
    return Network(
        **post_norm(sizes, config.number("layer_norm_eps", default=EPSILON, minimum=0), attention),
        family="nomic_bert",
        activation=function_of(config, "hidden_act", "silu"),
        gated=True,
        vocabulary=config.whole("vocab_size", default=30528, minimum=1),
        types=config.whole("type_vocab_size", default=TYPES) or None,
        max_length=tokens_of(config, *_longest(config)),
        pooling=spec.pooling,
    )


def _own(config: Fields, spec: ModelSpec) -> Network:
    for key in ("head_dim", "rope_parameters", "rope_scaling"):
        expect(config, key)
    sizes = sizes_of(config, _OWN_KEYS)
    turning = _turning(config, sizes.head_dim)
    turns = frequencies(config.number("rotary_emb_base", default=10_000.0, minimum=1), sizes.head_dim, turning)
    name = config.text("activation_function", default="gelu")
    return Network(
        **post_norm(sizes, config.number("layer_norm_epsilon", default=1e-5, minimum=0), AttentionKind(rotary=turns)),
        family="nomic_bert",
        activation=_GATES.get(name) or function_of(config, "activation_function"),
        gated=name in _GATES,
        vocabulary=config.whole("vocab_size", minimum=1),
        types=config.whole("type_vocab_size", default=TYPES) or None,
        max_length=tokens_of(config, *_longest(config)),
        pooling=spec.pooling,
    )


def _turning(config: Fields, head_dim: int) -> int:
    """Components of a head that turn."""
    turning = config.number("rotary_emb_fraction", default=0) * head_dim
    if not 0 < turning <= head_dim or turning % 2:
        raise config.wrong("rotary_emb_fraction", f"the part of a head's {head_dim} components that turn, in pairs")
    return int(turning)


def _locate(network: Network, config: Fields, found: Collection[str]) -> Sources:
    own = _is_own(config)
    flags = {key: config.flag(key, default=True) for key in ("qkv_proj_bias", "mlp_fc1_bias", "mlp_fc2_bias")}
    biased = flags if own else dict.fromkeys(flags, False)
    parts = dict(zip(flags, (_ATTENTION, _UP, _DOWN), strict=True))
    unbiased = {part for key, some in parts.items() if not biased[key] for part in some}
    names = _JOINED if any("encoder.layers." in name for name in found) else SPLIT
    if not network.gated:
        ungated = {ours: theirs for ours, theirs in names.parts.items() if ours != "gate"} | {"up": "mlp.fc1"}
        names = replace(names, parts=ungated)
    sources = encoder(network, replace(names, unbiased=unbiased))
    if own:
        turning, interleaved = _turning(config, network.head_dim), config.flag("rotary_emb_interleaved", default=False)
        order = halves(network.heads, network.head_dim, turning, interleaved=interleaved)
        reordered(sources, network.layers, order)
    return sources


NOMIC_BERT = Family(
    name="nomic_bert",
    types=("nomic_bert",),
    classes=("NomicBert",),
    honours=frozenset({"head_dim", "rope_parameters", "rope_scaling", "rotary_emb_fraction", "rotary_emb_interleaved"}),
    longest=_longest,
    describe=_describe,
    locate=_locate,
)
