"""The classifiers of cross-encoders: dense layers behind the pooled row."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nimbed._model_folder.networks.config import labels_of
from nimbed._model_folder.networks.description import Head
from nimbed._model_folder.networks.family import linear

if TYPE_CHECKING:
    from nimbed._files.json import Fields
    from nimbed._model_folder.networks.description import Function, Network
    from nimbed._model_folder.networks.family import Source
    from nimbed._types import ModelSpec


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
