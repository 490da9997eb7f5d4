"""What an entry of the table of networks is, and how it says where a weight comes from."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from nimbed._files.json import Fields
    from nimbed._model_folder.networks.description import Network
    from nimbed._types import ModelSpec

    Array = np.ndarray[Any, np.dtype[Any]]
    Sources = Mapping[str, "Source"]
    # Where a network's weights come from. The names are those of the file's tensors: some families have two forms.
    Locate = Callable[[Network, Fields, Collection[str]], Sources]


# What BERT and its kin say, and what transformers takes where they do not.
LONGEST = ("max_position_embeddings", 512)


def _itself(tensor: Array) -> Array:
    return tensor


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a weight comes from.

    Attributes:
        tensors: those of the file that it is made of, with the shapes that they must have.
        fold: makes it of them.
    """

    tensors: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    fold: Callable[..., Array] = _itself

    def rows(self, part: slice | Array) -> Source:
        """Some of its rows, or all of them in another order."""
        fold = self.fold
        return replace(self, fold=lambda *tensors: fold(*tensors)[part])


def whole(name: str, *shape: int) -> Source:
    """A tensor as it is."""
    return Source(tensors={name: shape})


def zeros(size: int) -> Source:
    """The bias that a network does without."""
    return Source(fold=lambda: np.zeros(size, np.float32))


def linear(ours: str, theirs: str, outputs: int, inputs: int, *, bias: bool = True) -> dict[str, Source]:
    """A dense layer's weight and bias."""
    return joined({ours: outputs}, theirs, inputs, bias=bias)


def joined(ours: Mapping[str, int], theirs: str, inputs: int, *, bias: bool = True) -> dict[str, Source]:
    """Those of dense layers, by our names with their outputs, whose rows lie behind one another in one of theirs."""
    total, found = sum(ours.values()), {}
    for (name, outputs), end in zip(ours.items(), accumulate(ours.values()), strict=True):
        part = slice(end - outputs, end)
        found[f"{name}.weight"] = whole(f"{theirs}.weight", total, inputs).rows(part)
        found[f"{name}.bias"] = whole(f"{theirs}.bias", total).rows(part) if bias else zeros(outputs)
    return found


def norm(ours: str, theirs: str, size: int, *, bias: bool = True) -> dict[str, Source]:
    """A LayerNorm's."""
    return {
        f"{ours}.weight": whole(f"{theirs}.weight", size),
        f"{ours}.bias": whole(f"{theirs}.bias", size) if bias else zeros(size),
    }


@dataclass(frozen=True, kw_only=True)
class Names:
    """What the tensors of an encoder are called.

    Attributes:
        tables: theirs by our names.
        embedding_norm: theirs.
        layer: beginning of the names in a layer; ``{}`` stands for its number.
        parts: the rest of them by our names; those that lie in one tensor of theirs are joined by ``+``.
        unbiased: parts without a bias, by our names.
    """

    tables: Mapping[str, str]
    embedding_norm: str = "embeddings.LayerNorm"
    layer: str
    parts: Mapping[str, str]
    unbiased: Collection[str] = ()


TABLES = {
    "words": "embeddings.word_embeddings",
    "positions": "embeddings.position_embeddings",
    "types": "embeddings.token_type_embeddings",
}


def encoder(network: Network, names: Names) -> dict[str, Source]:
    """The sources of all weights but the head's."""
    rows = {"words": network.vocabulary, "positions": network.positions, "types": network.types}
    found = {
        ours: whole(f"{theirs}.weight", count, network.hidden)
        for ours, theirs in names.tables.items()
        if (count := rows[ours]) is not None
    }
    found |= norm("embedding_norm", names.embedding_norm, network.hidden, bias="norm" not in names.unbiased)
    for number in range(network.layers):
        for ours, theirs in names.parts.items():
            found |= _part(network, names, f"layers.{number}.", ours, names.layer.format(number) + theirs)
    return found


def _part(network: Network, names: Names, layer: str, ours: str, theirs: str) -> dict[str, Source]:
    if ours.endswith("norm"):
        return norm(layer + ours, theirs, network.hidden, bias="norm" not in names.unbiased)
    query, key = network.heads * network.head_dim, network.key_value_heads * network.head_dim
    outputs = {"query": query, "key": key, "value": key, "up": network.intermediate, "gate": network.intermediate}
    inputs = {"output": query, "down": network.intermediate}
    wanted = ours.split("+")
    return joined(
        {layer + part: outputs.get(part, network.hidden) for part in wanted},
        theirs,
        inputs.get(wanted[0], network.hidden),
        bias=wanted[0] not in names.unbiased,
    )


@dataclass(frozen=True, kw_only=True)
class Family:
    """An entry of the table of networks.

    Attributes:
        name: of the entry.
        types: ``model_type`` of its configs.
        classes: beginnings of the class names that its ``auto_map`` may have; the code itself is never run.
        applies: whether a config of these types is this family's.
        honours: the keys that it reads, of those that others have to leave out.
        positions: values of ``position_embedding_type``, where it does not read that, by which transformers' class of
            its types is the same network.
        longest: the key that says how many positions there are, and their number where it is missing.
        describe: its description, from the config.
        locate: where its weights come from.
    """

    name: str
    types: tuple[str, ...]
    classes: tuple[str, ...] = ()
    applies: Callable[[Fields], bool] = lambda _: True
    honours: frozenset[str] = frozenset()
    positions: tuple[str, ...] = ("absolute",)
    longest: Callable[[Fields], tuple[str, int]] = lambda _: LONGEST
    describe: Callable[[Fields, ModelSpec], Network]
    locate: Locate
