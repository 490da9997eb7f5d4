"""The parts of a description that BERT's successors have in common: each norm behind its branch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nimbed._model_folder.networks.config import count_of, head_dim_of, width_of
from nimbed._model_folder.networks.description import AttentionKind, NormStep

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nimbed._files.json import Fields


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What every config says.

    Attributes:
        hidden: width of a token's vector.
        layers: of the encoder.
        heads: of attention.
        intermediate: width between the products of a feed-forward block.
        head_dim: width of a head.
    """

    hidden: int
    layers: int
    heads: int
    intermediate: int
    head_dim: int


_KEYS = {
    "hidden": "hidden_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "intermediate": "intermediate_size",
}


def sizes_of(config: Fields, keys: Mapping[str, str] | None = None) -> Sizes:
    """Those of a config, whose ``keys`` are BERT's where nothing else is said.

    Raises:
        SpecError: one is missing or no number from 1 on, or the heads do not divide the width.
    """
    names = {**_KEYS, **(keys or {})}
    hidden, inner = (width_of(config, names[size]) for size in ("hidden", "intermediate"))
    layers, heads = (count_of(config, names[size]) for size in ("layers", "heads"))
    head_dim = head_dim_of(config, names["heads"], hidden, heads)
    return Sizes(hidden=hidden, layers=layers, heads=heads, intermediate=inner, head_dim=head_dim)


def post_norm(sizes: Sizes, epsilon: float, attention: AttentionKind) -> dict[str, Any]:
    """The fields of a description that follow: one kind of attention, one epsilon, a key for each query."""
    step = NormStep(epsilon=epsilon)
    return {
        **vars(sizes),
        "key_value_heads": sizes.heads,
        "attention": (attention,),
        "attention_of": (0,) * sizes.layers,
        "embedding_norm": step,
        "attention_norms": (step,) * sizes.layers,
        "output_norms": (step,) * sizes.layers,
    }
