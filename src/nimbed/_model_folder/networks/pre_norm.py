"""The parts of a description that decoders and their kin have in common: an RMSNorm before each branch, no biases."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nimbed._model_folder.networks.config import head_dim_of, width_of
from nimbed._model_folder.networks.description import NormStep
from nimbed._model_folder.networks.family import Names, encoder, norm

if TYPE_CHECKING:
    from nimbed._files.json import Fields
    from nimbed._model_folder.networks.description import AttentionKind, Network
    from nimbed._model_folder.networks.family import Source

# What these configs say that others have to leave out.
KEYS = frozenset({"head_dim", "num_key_value_heads", "rope_parameters"})
_PRODUCTS = {
    **{part: f"self_attn.{part[0]}_proj" for part in ("query", "key", "value")},
    "output": "self_attn.o_proj",
    **{part: f"mlp.{part}_proj" for part in ("gate", "up", "down")},
}


def pre_norm(
    config: Fields,
    epsilon: float,
    attention: dict[str, AttentionKind],
    kinds: list[str],
    *,
    after: bool = False,
) -> dict[str, Any]:
    """The fields of a description that follow from a config with Llama's keys.

    Args:
        config: of the folder.
        epsilon: of all norms.
        attention: its kinds by name.
        kinds: the name of each layer's.
        after: whether each branch has a norm of its own, before it is added.
    """
    hidden, heads = width_of(config, "hidden_size"), width_of(config, "num_attention_heads")
    step = NormStep(epsilon=epsilon, keeps=True, rms=True, after=epsilon if after else None)
    last = NormStep(epsilon=epsilon, rms=True, after=step.after)
    names = sorted(attention)
    return {
        "hidden": hidden,
        "layers": len(kinds),
        "heads": heads,
        "key_value_heads": key_value_heads_of(config, heads),
        "head_dim": head_dim(config),
        "intermediate": width_of(config, "intermediate_size"),
        "gated": True,
        "vocabulary": config.whole("vocab_size", minimum=1),
        "attention": tuple(attention[name] for name in names),
        "attention_of": tuple(map(names.index, kinds)),
        "embedding_norm": NormStep(epsilon=epsilon, keeps=True, rms=True),
        "attention_norms": (step,) * len(kinds),
        "output_norms": (*(step,) * (len(kinds) - 1), last),
    }


def head_dim(config: Fields) -> int:
    """The width of a head, which may be another than that of the stream by the number of heads."""
    if config.get("head_dim") is not None:
        return width_of(config, "head_dim")
    heads = width_of(config, "num_attention_heads")
    return head_dim_of(config, "num_attention_heads", width_of(config, "hidden_size"), heads)


def key_value_heads_of(config: Fields, heads: int) -> int:
    """Heads of keys and values (Ainslie et al. 2023).

    Raises:
        SpecError: they do not divide the heads of queries.
    """
    shared = width_of(config, "num_key_value_heads", default=heads)
    if heads % shared:
        raise config.wrong("num_key_value_heads", f"a number that divides the {heads} heads of queries")
    return shared


def locate_pre_norm(network: Network, *, before: str = "post_attention_layernorm") -> dict[str, Source]:
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
