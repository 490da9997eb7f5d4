"""ModernBERT (Warner et al. 2024): pre-norm, rotary positions, gates, local and global attention."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from nimbed._model_folder.networks.config import (
    count_of,
    expect,
    function_of,
    head_dim_of,
    labels_of,
    tokens_of,
    width_of,
)
from nimbed._model_folder.networks.description import AttentionKind, Head, Network, NormStep
from nimbed._model_folder.networks.family import Family, Names, encoder, linear, norm
from nimbed._model_folder.networks.layer_types import GLOBAL, LOCAL, layer_types, turns_of

if TYPE_CHECKING:
    from collections.abc import Collection

    from nimbed._files.json import Fields
    from nimbed._model_folder.networks.family import Sources
    from nimbed._types import ModelSpec, Pooling

# With transformers' own values.
_WIDTHS, _COUNTS = {"hidden_size": 768, "intermediate_size": 1152}, {"num_hidden_layers": 22, "num_attention_heads": 12}
_ATTENTION, _FEED_FORWARD = ("query", "key", "value", "output"), ("gate", "up", "down")
_NAMES = Names(
    tables={"words": "embeddings.tok_embeddings"},
    embedding_norm="embeddings.norm",
    layer="layers.{}.",
    parts={
        "query+key+value": "attn.Wqkv",
        "output": "attn.Wo",
        "attention_norm": "mlp_norm",
        "gate+up": "mlp.Wi",
        "down": "mlp.Wo",
    },
)
_LONGEST = ("max_position_embeddings", 8192)
# transformers' names -> the older key of its base, and that base.
_THETA = {GLOBAL: ("global_rope_theta", 160_000.0), LOCAL: ("local_rope_theta", 10_000.0)}


def _describe(config: Fields, spec: ModelSpec) -> Network:
    hidden, inner = (width_of(config, key, default=size) for key, size in _WIDTHS.items())
    layers, heads = (count_of(config, key, default=size) for key, size in _COUNTS.items())
    step = NormStep(epsilon=config.number("norm_eps", default=1e-5, minimum=0), keeps=True)
    last = NormStep(epsilon=step.epsilon)
    head_dim = head_dim_of(config, "num_attention_heads", hidden, heads)
    of = layer_types(config, _pattern(config, layers))
    kinds = sorted(set(of))
    head = _classifier(config, hidden, step.epsilon) if spec.task == "scoring" else ()
    return Network(
        family="modernbert",
        hidden=hidden,
        layers=layers,
        heads=heads,
        key_value_heads=heads,
        head_dim=head_dim,
        intermediate=inner,
        activation=function_of(config, "hidden_activation"),
        gated=True,
        vocabulary=config.whole("vocab_size", default=50368, minimum=1),
        max_length=tokens_of(config, *_LONGEST),
        attention=tuple(_attention(config, kind, head_dim) for kind in kinds),
        attention_of=tuple(map(kinds.index, of)),
        embedding_norm=last,
        attention_norms=(step,) * layers,
        output_norms=(*(step,) * (layers - 1), last),
        pooling=_pooling(config) if head else spec.pooling,
        head=head,
    )


def _pattern(config: Fields, layers: int) -> list[str]:
    """Every n-th is global."""
    every = width_of(config, "global_attn_every_n_layers", default=3)
    return [LOCAL if i % every else GLOBAL for i in range(layers)]


def _attention(config: Fields, kind: str, head_dim: int) -> AttentionKind:
    """A local layer reads half of the window to both sides."""
    reach = tokens_of(config, "local_attention", 128) // 2 if kind == LOCAL else None
    return AttentionKind(back=reach, ahead=reach, rotary=turns_of(config, kind, _THETA, head_dim))


def _classifier(config: Fields, hidden: int, epsilon: float) -> tuple[Head, ...]:
    activation = function_of(config, "classifier_activation")
    return (
        Head(outputs=hidden, activation=activation, norm=epsilon),
        Head(outputs=labels_of(config), activation="identity"),
    )


def _pooling(config: Fields) -> Pooling:
    """Of a classifier."""
    expect(config, key := "classifier_pooling", "cls", "mean")
    return "mean" if config.get(key) == "mean" else "cls"


def _locate(network: Network, config: Fields, _: Collection[str]) -> Sources:
    """A layer's own norm in the file is the one before its attention: here, the one that the layer before executes."""
    hidden = network.hidden

    def biased(key: str) -> bool:
        return config.flag(f"{key}_bias", default=False)

    parts = {"attention": _ATTENTION, "mlp": _FEED_FORWARD, "norm": ("norm",)}
    unbiased = [part for key, some in parts.items() if not biased(key) for part in some]
    found = encoder(network, replace(_NAMES, unbiased=unbiased))
    after = [*(f"layers.{number}.attn_norm" for number in range(1, network.layers)), "final_norm"]
    for number, theirs in enumerate(after):
        found |= norm(f"layers.{number}.output_norm", theirs, hidden, bias=biased("norm"))
    if network.head:
        found |= linear("head.0", "head.dense", hidden, hidden, bias=biased("classifier"))
        found |= norm("head.0.norm", "head.norm", hidden, bias=biased("norm"))
        found |= linear("head.1", "classifier", network.head[1].outputs, hidden)
    return found


MODERNBERT = Family(
    name="modernbert",
    types=("modernbert",),
    honours=frozenset({"layer_types", "rope_parameters"}),
    positions=("absolute", "sans_pos"),
    longest=lambda _: _LONGEST,
    describe=_describe,
    locate=_locate,
)
