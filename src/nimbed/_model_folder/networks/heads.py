"""The classifiers of cross-encoders: dense layers behind the pooled row, or the answers of a language model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nimbed._model_folder.networks.config import labels_of
from nimbed._model_folder.networks.description import Head
from nimbed._model_folder.networks.family import Source, linear, zeros
from nimbed.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nimbed._files.json import Fields
    from nimbed._model_folder.networks.description import Function, Network
    from nimbed._model_folder.networks.family import Array
    from nimbed._types import ModelSpec

_TIED = "tie_word_embeddings"
_WORDS, _HEAD = "embed_tokens.weight", "lm_head.weight"


def classifier(config: Fields, spec: ModelSpec, hidden: int, activation: Function) -> tuple[Head, ...]:
    """Two layers, where the spec says that the network scores."""
    if spec.task != "scoring":
        return ()
    return Head(outputs=hidden, activation=activation), Head(outputs=labels_of(config), activation="identity")


def two_layers(network: Network, first: str, second: str) -> dict[str, Source]:
    """Their weights, where the description has them."""
    if not network.head:
        return {}
    wide, last = network.head
    return {
        **linear("head.0", first, wide.outputs, network.hidden),
        **linear("head.1", second, last.outputs, wide.outputs),
    }


def answering(spec: ModelSpec, network: Network, config: Fields, tensors: Mapping[str, Array]) -> dict[str, Source]:
    """The classifier that the spec's answers make: the row of the first in the head's table less that of the other.

    Args:
        spec: of the folder.
        network: its description.
        config: says whether the head's table is that of the words.
        tensors: of the file, by their plain names.

    Raises:
        SpecError: the tables that the config says are one are not.
    """
    tied, rows = config.flag(_TIED, default=False), list(spec.answers)
    table = _WORDS if tied and _HEAD not in tensors else _HEAD
    both = [tensors[name] for name in (_HEAD, _WORDS) if name in tensors and len(tensors[name]) > max(rows)]
    if tied and len(both) > 1 and not np.array_equal(both[0][rows], both[1][rows]):
        raise SpecError(f"{config.where}: {_TIED}: true, but {_HEAD} and {_WORDS} are not equal in their file")

    def difference(table: Array) -> Array:
        first, *others = table[rows].astype(np.float32)
        made: Array = (first - sum(others))[None]
        return made

    row = Source(tensors={table: (network.vocabulary, network.hidden)}, fold=difference)
    return {"head.0.weight": row, "head.0.bias": zeros(1)}
