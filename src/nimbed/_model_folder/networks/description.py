"""What the engine must know of a network besides its weights: frozen records, and nothing of tensors' names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from nimbed._types import Pooling

# What the engine computes between two products, behind one, or behind the head.
Function = Literal["gelu", "gelu_tanh", "identity", "relu", "sigmoid", "silu", "tanh"]


@dataclass(frozen=True, kw_only=True)
class AttentionKind:
    """What a token reads of the others, and how their distance counts.

    Attributes:
        back: tokens before it that it reads; None: all.
        ahead: tokens behind it that it reads; None: all.
        rotary: the radians by which component ``i`` of a query or a key turns with component ``i + head_dim / 2`` at
            each token (Su et al. 2021), one for each ``i``; None where none does.
        distances: what is added to the scores: MPNet's table of buckets, or ALiBi's slopes (Press et al. 2022).
    """

    back: int | None = None
    ahead: int | None = None
    rotary: tuple[float, ...] | None = None
    distances: Literal["alibi", "buckets"] | None = None


@dataclass(frozen=True, kw_only=True)
class NormStep:
    """A LayerNorm or RMSNorm, executed when a branch has been added to the residual stream.

    Attributes:
        epsilon: added to the variance.
        keeps: whether the stream stays the plain sum (pre-norm), or becomes the norm (post-norm).
        rms: whether the mean stays in (RMSNorm, Zhang and Sennrich 2019).
        after: epsilon of a norm of the branch itself, before it is added (Gemma's sandwich); None where there is none.
    """

    epsilon: float
    keeps: bool = False
    rms: bool = False
    after: float | None = None


@dataclass(frozen=True, kw_only=True)
class Head:
    """A dense layer behind the pooling.

    Attributes:
        outputs: its width.
        activation: behind the product.
        norm: epsilon of a LayerNorm behind the activation; None where there is none.
    """

    outputs: int
    activation: Function
    norm: float | None = None


@dataclass(frozen=True, kw_only=True)
class Network:
    """A network.

    Attributes:
        family: its entry in the table of families.
        hidden: width of a token's vector.
        layers: of the encoder.
        heads: of queries.
        key_value_heads: of keys and values; neighbouring heads of queries share one.
        head_dim: width of a head.
        intermediate: width between the products of a feed-forward block.
        activation: between them.
        gated: whether what is activated is multiplied by a product of its own (Shazeer 2020).
        head_norm: epsilon of an RMSNorm of each head's query and key, before positions turn them; or None.
        vocabulary: rows of the table of words.
        positions: rows of the table of positions; None where there is none.
        types: rows of the table of segments; None where there is none.
        padding: the token from whose id on positions are counted, and which is not counted itself; or -1.
        max_length: tokens of the longest text that it takes.
        attention: kinds of attention.
        attention_of: the number of its kind, for each layer.
        embedding_norm: executed before the first layer.
        attention_norms: executed when attention has been added, for each layer.
        output_norms: executed when the feed-forward block has been added, for each layer: what the next one reads.
        pooling: how token vectors become what the head reads.
        head: dense layers and the classifier behind the pooling.
    """

    family: str
    hidden: int
    layers: int
    heads: int
    key_value_heads: int
    head_dim: int
    intermediate: int
    activation: Function
    gated: bool = False
    head_norm: float | None = None
    vocabulary: int
    positions: int | None = None
    types: int | None = None
    padding: int = -1
    max_length: int
    attention: tuple[AttentionKind, ...] = (AttentionKind(),)
    attention_of: tuple[int, ...]
    embedding_norm: NormStep
    attention_norms: tuple[NormStep, ...]
    output_norms: tuple[NormStep, ...]
    pooling: Pooling
    head: tuple[Head, ...] = ()
