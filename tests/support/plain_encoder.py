"""A transformer encoder in plain torch, float32, one text at a time: what the networks' papers say, without haste.

It is written independently of the engine. Where transformers has a class of its own, tests hold it to that class; where
it has none, this is the oracle. Tensors go by one name whatever the folder calls them (see `shapes`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Tensors = Mapping[str, torch.Tensor]

_ACTIVATIONS = {
    "gelu": functional.gelu,
    "gelu_tanh": lambda x: functional.gelu(x, approximate="tanh"),
    "relu": functional.relu,
    "silu": functional.silu,
    "tanh": torch.tanh,
}
_BUCKETS, _FARTHEST = 32, 128  # of MPNet's table of distances


@dataclass(frozen=True, kw_only=True)
class Head:
    """What turns a pooled token into a score: a dense layer, perhaps a norm, a last layer.

    Attributes:
        activation: behind the dense layer.
        dense_bias: whether the dense layer has one.
        norm: whether a LayerNorm without bias follows the activation.
    """

    activation: str
    dense_bias: bool = True
    norm: bool = False


@dataclass(frozen=True, kw_only=True)
class Anatomy:
    """What the tensors do not say.

    Attributes:
        width: of the residual stream.
        inner: channels behind the activation.
        first_position: row of the position table for the first token.
        positions: rows of that table; 0: there is none.
        types: rows of the table of token types; 0: there is none.
        pre_norm: norms before attention and feed-forward (the first layer's attention has none), and one at the end.
        rms: pre-norm of another kind: RMSNorm (Zhang and Sennrich 2019), before all branches, and none
            behind the embeddings.
        norm_offset: what is added to the weights of all norms.
        head_norms: RMSNorm of each head's queries and keys, before positions turn them.
        branch_norms: a norm of what attention and feed-forward give, before it is added.
        key_heads: of keys and values; 0: as many as of queries.
        head_width: 0: the width by the number of heads.
        score_scale: of queries and keys; 0: the root of the head's width, inverted.
        word_scale: of the embedded words.
        causal: a token sees itself and those before it.
        gated: the activated half times the other one.
        unbiased: linear layers without bias ("query", "up", ...); "norm" for all norms.
        thetas: rotary base of each layer; none: no rotary positions.
        ntk: factor of static NTK scaling (bloc97 2023, with https://kexue.fm/archives/9706): the base times the factor,
            and all frequencies divided by factor ** (2 / head width).
        reaches: tokens to either side that a layer's attention sees; None: all. Empty: all layers see all.
        distances: "alibi" (Press et al. 2022, both directions alike) or "buckets" (Raffel et al. 2020, MPNet's).
    """

    width: int
    layers: int
    heads: int
    inner: int
    vocabulary: int
    epsilon: float
    positions: int = 0
    first_position: int = 0
    types: int = 0
    activation: str = "gelu"
    pre_norm: bool = False
    rms: bool = False
    norm_offset: float = 0.0
    head_norms: bool = False
    branch_norms: bool = False
    key_heads: int = 0
    head_width: int = 0
    score_scale: float = 0.0
    word_scale: float = 1.0
    causal: bool = False
    gated: bool = False
    unbiased: frozenset[str] = frozenset()
    thetas: tuple[float, ...] = ()
    ntk: float = 1.0
    reaches: tuple[int | None, ...] = ()
    distances: str | None = None
    head: Head | None = None

    @property
    def head_size(self) -> int:
        """Width of a head."""
        return self.head_width or self.width // self.heads


class PlainEncoder:
    """The network of these tensors; methods take hidden states ``[tokens, width]``."""

    def __init__(self, anatomy: Anatomy, tensors: Tensors) -> None:
        self.anatomy = anatomy
        self.tensors = tensors

    def linear(self, name: str, inputs: torch.Tensor) -> torch.Tensor:
        return functional.linear(inputs, self.tensors[f"{name}.weight"], self.tensors.get(f"{name}.bias"))

    def norm(self, name: str, hidden: torch.Tensor) -> torch.Tensor:
        weight, bias = self.tensors[f"{name}.weight"], self.tensors.get(f"{name}.bias")
        if self.anatomy.rms:
            size = (hidden.square().mean(-1, keepdim=True) + self.anatomy.epsilon).sqrt()
            return hidden / size * (self.anatomy.norm_offset + weight)
        return functional.layer_norm(hidden, weight.shape, weight, bias, self.anatomy.epsilon)

    def embed(self, ids: Sequence[int], types: Sequence[int] | None = None) -> torch.Tensor:
        summed = self.tensors["word.weight"][torch.tensor(ids)] * self.anatomy.word_scale
        if self.anatomy.positions:
            start = self.anatomy.first_position
            summed = summed + self.tensors["position.weight"][start : start + len(ids)]
        if self.anatomy.types:
            summed = summed + self.tensors["type.weight"][torch.tensor(types or [0] * len(ids))]
        return summed if self.anatomy.rms else self.norm("embedding_norm", summed)

    def attention_inputs(self, layer: int, hidden: torch.Tensor) -> torch.Tensor:
        has_norm = self.anatomy.pre_norm and (layer or self.anatomy.rms)
        return self.norm(f"layers.{layer}.attention_norm", hidden) if has_norm else hidden

    def context(self, layer: int, inputs: torch.Tensor) -> torch.Tensor:
        """Attention before its output product, ``[tokens, width]``."""
        parts = (self.linear(f"layers.{layer}.{part}", inputs) for part in ("query", "key", "value"))
        width = self.anatomy.head_size
        query, key, value = (part.unflatten(1, (-1, width)).transpose(0, 1) for part in parts)
        if self.anatomy.head_norms:
            query, key = self.norm(f"layers.{layer}.query_norm", query), self.norm(f"layers.{layer}.key_norm", key)
        if self.anatomy.thetas:
            query, key = (rotated(one, frequencies(self.anatomy, layer)) for one in (query, key))
        key, value = (one.repeat_interleave(len(query) // len(one), dim=0) for one in (key, value))
        scale = self.anatomy.score_scale or width**-0.5
        scores = query @ key.transpose(1, 2) * scale + self.score_offsets(layer, len(inputs))
        return (scores.softmax(-1) @ value).transpose(0, 1).flatten(1)

    def score_offsets(self, layer: int, tokens: int) -> torch.Tensor:
        """``[heads or 1, tokens, tokens]``, or one for all."""
        apart = torch.arange(tokens) - torch.arange(tokens)[:, None]  # of key and query
        offsets = torch.zeros(1, tokens, tokens)
        if self.anatomy.distances == "alibi":
            offsets = -torch.tensor(alibi_slopes(self.anatomy.heads))[:, None, None] * apart.abs()
        elif self.anatomy.distances == "buckets":
            offsets = self.tensors["distances.weight"][buckets(apart)].permute(2, 0, 1)
        reach = self.anatomy.reaches[layer] if self.anatomy.reaches else None
        if self.anatomy.causal:
            offsets = offsets.masked_fill(apart > 0, -torch.inf)
        return offsets if reach is None else offsets.masked_fill(apart.abs() > reach, -torch.inf)

    def attention_written(self, layer: int, hidden: torch.Tensor) -> torch.Tensor:
        """What the output product is given."""
        return self.context(layer, self.attention_inputs(layer, hidden))

    def attention_branch(self, layer: int, hidden: torch.Tensor) -> torch.Tensor:
        return self.branch(layer, "output", self.attention_written(layer, hidden))

    def branch(self, layer: int, product: str, inputs: torch.Tensor) -> torch.Tensor:
        """What is added to the stream, of what "output" or "down" is given."""
        made = self.linear(f"layers.{layer}.{product}", inputs)
        return self.norm(f"layers.{layer}.{product}_branch_norm", made) if self.anatomy.branch_norms else made

    def add_attention(self, layer: int, hidden: torch.Tensor) -> torch.Tensor:
        summed = hidden + self.attention_branch(layer, hidden)
        return summed if self.anatomy.pre_norm else self.norm(f"layers.{layer}.attention_norm", summed)

    def feed_forward_inputs(self, layer: int, hidden: torch.Tensor) -> torch.Tensor:
        return self.norm(f"layers.{layer}.output_norm", hidden) if self.anatomy.pre_norm else hidden

    def activated(self, layer: int, inputs: torch.Tensor) -> torch.Tensor:
        """Behind the activation, ``[tokens, inner]``."""
        act = _ACTIVATIONS[self.anatomy.activation]
        up = self.linear(f"layers.{layer}.up", inputs)
        return act(self.linear(f"layers.{layer}.gate", inputs)) * up if self.anatomy.gated else act(up)

    def feed_forward_written(self, layer: int, hidden: torch.Tensor) -> torch.Tensor:
        """What the down product is given."""
        return self.activated(layer, self.feed_forward_inputs(layer, hidden))

    def feed_forward_branch(self, layer: int, hidden: torch.Tensor) -> torch.Tensor:
        return self.branch(layer, "down", self.feed_forward_written(layer, hidden))

    def add_feed_forward(self, layer: int, hidden: torch.Tensor) -> torch.Tensor:
        summed = hidden + self.feed_forward_branch(layer, hidden)
        return summed if self.anatomy.pre_norm else self.norm(f"layers.{layer}.output_norm", summed)

    def layers(self, ids: Sequence[int], types: Sequence[int] | None = None) -> list[torch.Tensor]:
        """Hidden states: the embedded tokens, those behind each layer, and what is pooled."""
        states = [self.embed(ids, types)]
        for layer in range(self.anatomy.layers):
            states.append(self.add_feed_forward(layer, self.add_attention(layer, states[-1])))
        return [*states, self.norm("final_norm", states[-1]) if self.anatomy.pre_norm else states[-1]]

    def tokens(self, ids: Sequence[int], types: Sequence[int] | None = None) -> torch.Tensor:
        return self.layers(ids, types)[-1]

    def score(self, pooled: torch.Tensor) -> torch.Tensor:
        """Of a pooled token ``[width]``, ``[1]``."""
        head = self.anatomy.head
        assert head is not None
        dense = _ACTIVATIONS[head.activation](self.linear("head.dense", pooled))
        return self.linear("head.out", self.norm("head.norm", dense) if head.norm else dense)


def frequencies(anatomy: Anatomy, layer: int) -> torch.Tensor:
    """Rotary angles of one step, ``[head width / 2]`` (Su et al. 2021)."""
    width = anatomy.head_size
    exponents = torch.arange(0, width, 2, dtype=torch.float64) / width
    scaled = (anatomy.thetas[layer] * anatomy.ntk) ** -exponents
    return scaled / anatomy.ntk ** (2 / width)


def rotated(heads: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
    """``[heads, tokens, head width]``; channel i turns with channel i + half."""
    angles = torch.arange(heads.shape[1])[:, None] * steps
    cosine, sine = angles.cos().float(), angles.sin().float()
    first, second = heads.chunk(2, dim=-1)
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], dim=-1)


def alibi_slopes(heads: int) -> list[float]:
    """A geometric sequence; where heads are no power of two, every other slope of twice as many heads fills it up."""
    whole = 2 ** math.floor(math.log2(heads))
    slopes = [2 ** (-8 * (head + 1) / whole) for head in range(whole)]
    return slopes if whole == heads else slopes + alibi_slopes(2 * whole)[0::2][: heads - whole]


def buckets(apart: torch.Tensor) -> torch.Tensor:
    """Rows of the table of distances: exact ones up to 8 to each side, then by their logarithm."""
    half, exact = _BUCKETS // 2, _BUCKETS // 4
    far = apart.abs().clamp(min=1).double().div(exact).log().div(math.log(_FARTHEST / exact)).mul(half - exact)
    rows = torch.where(apart.abs() < exact, apart.abs(), (exact + far).long().clamp(max=half - 1))
    return rows + half * (apart > 0)


def shapes(anatomy: Anatomy) -> dict[str, tuple[int, ...]]:
    """Every tensor by name; ``layers.N.`` of each layer."""
    width, inner = anatomy.width, anatomy.inner
    queries, keys = anatomy.heads * anatomy.head_size, (anatomy.key_heads or anatomy.heads) * anatomy.head_size
    linear = {"query": (queries, width), "key": (keys, width), "value": (keys, width), "output": (width, queries)}
    linear |= {"up": (inner, width), "down": (width, inner), **({"gate": (inner, width)} if anatomy.gated else {})}
    layer = {f"{name}.weight": shape for name, shape in linear.items()}
    layer |= {f"{name}.bias": shape[:1] for name, shape in linear.items() if name not in anatomy.unbiased}
    norms = [*["embedding_norm"] * (not anatomy.rms), *["final_norm"] * anatomy.pre_norm]
    branches = ("output_branch_norm", "down_branch_norm") if anatomy.branch_norms else ()
    heads = ("query_norm", "key_norm") if anatomy.head_norms else ()
    for number in range(anatomy.layers):
        norms += [f"layers.{number}.{part}" for part in ("attention_norm", "output_norm", *branches)]
    if anatomy.pre_norm and not anatomy.rms:
        norms.remove("layers.0.attention_norm")
    tables = {"word": anatomy.vocabulary, "position": anatomy.positions, "type": anatomy.types}
    return {
        **{f"{name}.weight": (rows, width) for name, rows in tables.items() if rows},
        **({"distances.weight": (_BUCKETS, anatomy.heads)} if anatomy.distances == "buckets" else {}),
        **{f"layers.{number}.{name}": shape for number in range(anatomy.layers) for name, shape in layer.items()},
        **{f"{name}.weight": (width,) for name in norms},
        **{f"layers.{n}.{part}.weight": (anatomy.head_size,) for n in range(anatomy.layers) for part in heads},
        **{f"{name}.bias": (width,) for name in norms if "norm" not in anatomy.unbiased},
        **(_head_shapes(anatomy.head, width) if anatomy.head else {}),
    }


def _head_shapes(head: Head, width: int) -> dict[str, tuple[int, ...]]:
    return {
        "head.dense.weight": (width, width),
        **({"head.dense.bias": (width,)} if head.dense_bias else {}),
        **({"head.norm.weight": (width,)} if head.norm else {}),
        "head.out.weight": (1, width),
        "head.out.bias": (1,),
    }
