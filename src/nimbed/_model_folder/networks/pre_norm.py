"""The parts of a description that decoders and their kin have in common: an RMSNorm before each branch, no biases."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nimbed._model_folder.networks.config import MAX_HEAD, MAX_WIDTH, count_of, head_dim_of, width_of
from nimbed._model_folder.networks.description import NormStep
from nimbed._model_folder.networks.family import Names, encoder, norm

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from nimbed._files.json import Fields
    from nimbed._model_folder.networks.description import AttentionKind, Network
    from nimbed._model_folder.networks.family import Source
    from nimbed._types import ModelSpec

# What these configs say that others have to leave out.
KEYS = frozenset({"head_dim", "num_key_value_heads", "rope_parameters"})
_PRODUCTS = {
    **{part: f"self_attn.{part[0]}_proj" for part in ("query", "key", "value")},
    "output": "self_attn.o_proj",
    **{part: f"mlp.{part}_proj" for part in ("gate", "up", "down")},
}


def pre_norm(
    config: Fields,
    spec: ModelSpec,
    epsilon: float,
    attention: Mapping[str, AttentionKind],
    types: Sequence[str],
    *,
    after: bool = False,
) -> dict[str, Any]:
    """The fields of a description that follow from a config with Llama's keys.

    Args:
        config: of the folder.
        spec: of the folder.
        epsilon: of all norms.
        attention: the kind of each type of layer.
        types: the type of each layer.
        after: whether each branch has a norm of its own, before it is added.
    """
    heads, names = count_of(config, "num_attention_heads"), sorted(attention)
    step = NormStep(epsilon=epsilon, keeps=True, rms=True, after=epsilon if after else None)
    return {
        "hidden": width_of(config, "hidden_size"),
        "layers": len(types),
        "heads": heads,
        "key_value_heads": _key_value_heads(config, heads),
        "head_dim": head_dim(config),
        "intermediate": width_of(config, "intermediate_size"),
        "gated": True,
        "vocabulary": config.whole("vocab_size", minimum=1),
        "attention": tuple(attention[name] for name in names),
        "attention_of": tuple(map(names.index, types)),
        "embedding_norm": replace(step, after=None),
        "attention_norms": (step,) * len(types),
        "output_norms": (*(step,) * (len(types) - 1), replace(step, keeps=False)),
        "pooling": spec.pooling,
    }


def head_dim(config: Fields) -> int:
    """The width of a head, which may be another than that of the stream by the number of heads.

    Raises:
        SpecError: it is no whole number from 1 on, or heads are wider than the engine has room for.
    """
    heads = count_of(config, "num_attention_heads")
    if config.get("head_dim") is None:
        return head_dim_of(config, "num_attention_heads", width_of(config, "hidden_size"), heads)
    return config.whole("head_dim", minimum=1, maximum=min(MAX_HEAD, 2 * MAX_WIDTH // heads))


def _key_value_heads(config: Fields, heads: int) -> int:
    """Heads of keys and values (Ainslie et al. 2023)."""
    shared = count_of(config, "num_key_value_heads", default=heads)
    if heads % shared:
        raise config.wrong("num_key_value_heads", f"a number that divides the {heads} heads of queries")
    return shared


def locate_pre_norm(
    network: Network, _: Fields, __: Collection[str], *, before: str = "post_attention_layernorm"
) -> dict[str, Source]:
    """Where the weights lie. A layer's own norm in the file is the one that the layer before executes.

    Args:
        network: the description.
        before: the file's name of the norm before the feed-forward block.
    """
    names = Names(
        tables={"words": "embed_tokens"},
        embedding_norm="layers.0.input_layernorm",
        layer="layers.{}.",
        parts={**_PRODUCTS, "attention_norm": before},
        unbiased=("norm", *_PRODUCTS),
    )
    found = encoder(network, names)
    behind = [*(f"layers.{number}.input_layernorm" for number in range(1, network.layers)), "norm"]
    for number, theirs in enumerate(behind):
        found |= norm(f"layers.{number}.output_norm", theirs, network.hidden, bias=False)
        for part in ("query", "key") if network.head_norm is not None else ():
            name = f"layers.{number}.self_attn.{part[0]}_norm"
            found |= norm(f"layers.{number}.{part}_norm", name, network.head_dim, bias=False)
    return found
