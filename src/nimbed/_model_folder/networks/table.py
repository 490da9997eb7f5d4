"""The table of networks: which family a ``config.json`` is of, and its description."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, get_args

from nimbed._files.json import read_json
from nimbed._model_folder.networks.bert import BERT, DISTILBERT, ELECTRA, MPNET, ROBERTA
from nimbed._model_folder.networks.config import MAX_WIDTH, expect, refuse_unhonoured
from nimbed._model_folder.networks.description import Head
from nimbed._model_folder.networks.eurobert import EUROBERT
from nimbed._model_folder.networks.gemma3 import GEMMA3
from nimbed._model_folder.networks.gte import GTE
from nimbed._model_folder.networks.jina import JINA_BERT_V2, JINA_V3
from nimbed._model_folder.networks.jina_v5 import JINA_V5_NANO, JINA_V5_SMALL
from nimbed._model_folder.networks.modernbert import MODERNBERT
from nimbed._model_folder.networks.nomic_bert import NOMIC_BERT
from nimbed._model_folder.networks.qwen3 import QWEN3
from nimbed._types import Pooling
from nimbed.errors import SpecError

if TYPE_CHECKING:
    from pathlib import Path

    from nimbed._files.json import Fields
    from nimbed._model_folder.networks.description import Network
    from nimbed._model_folder.networks.family import Family
    from nimbed._types import ModelSpec

_MAX_DENSE = 16
# The first that applies: Jina's have the model_type of older ones.
FAMILIES = (
    *(JINA_BERT_V2, JINA_V3, BERT, ROBERTA, DISTILBERT, MPNET, ELECTRA, MODERNBERT, NOMIC_BERT, GTE),
    *(EUROBERT, QWEN3, GEMMA3, JINA_V5_NANO, JINA_V5_SMALL),
)
_POSITIONS = "position_embedding_type"
POOLINGS = tuple(pooling for pooling in get_args(Pooling) if pooling != "weightedmean")


def knows(config: Fields) -> bool:
    """Whether the table has the network of this ``config.json``, were it not for settings that are refused."""
    return family_of(config) is not None


def family_of(config: Fields) -> Family | None:
    """The entry for a ``config.json``, or None."""
    kind, classes = config.get("model_type"), _classes(config)
    for family in FAMILIES:
        known = all(name.startswith(family.classes) for name in classes) if family.classes else not classes
        if kind in family.types and known and family.applies(config):
            return family
    return None


def has_other_positions(config: Fields) -> bool:
    """Whether transformers' class of this ``model_type`` has other positions than the network of the table."""
    family = family_of(config)
    return family is not None and config.get(_POSITIONS) not in (None, *family.positions)


def _classes(config: Fields) -> list[str]:
    """The classes of a folder's own code, without their modules."""
    places = config.get("auto_map")
    named = list(places.values()) if isinstance(places, dict) else [places] if places else []
    flat = [name for one in named for name in (one if isinstance(one, list) else [one]) if name is not None]
    return [str(name).rpartition(".")[2] for name in flat]


def read_description(folder: Path, spec: ModelSpec) -> Network:
    """The description of a folder's network, with what its spec puts behind it.

    Raises:
        SpecError: the table has no such network, or the folder says something that is not honoured; names file and key.
    """
    config = read_json(folder / "config.json")
    family = family_of(config)
    if family is None:
        types = sorted({kind for one in FAMILIES for kind in one.types})
        code = " with code of its own (auto_map)" if config.get("auto_map") else ""
        raise SpecError(f"{config.where}: the native engine runs {', '.join(types)}, not {spec.architecture}{code}")
    refuse_unhonoured(config, family.honours)
    if _POSITIONS not in family.honours:
        expect(config, _POSITIONS, *family.positions)
    if spec.pooling not in POOLINGS:
        raise SpecError(f"the native engine has no {spec.pooling} pooling")
    network = family.describe(config, spec)
    if spec.answers:
        network = replace(network, head=(Head(outputs=1, activation=spec.activation),))
    _refuse_too_large(config, network)
    if network.head_dim % 2 and any(kind.rotary is not None for kind in network.attention):
        raise SpecError(f"{config.where}: the halves of a head turn against each other, and {network.head_dim} is odd")
    if spec.task == "scoring" and not network.head:
        raise SpecError(f"{config.where}: architectures: the native engine has no classifier of {family.name}")
    if spec.task == "scoring":
        return replace(network, head=(*network.head[:-1], replace(network.head[-1], activation=spec.activation)))
    _refuse_dense(folder, spec)
    dense = tuple(Head(outputs=layer.out_features, activation=layer.activation) for layer in spec.dense)
    return replace(network, head=network.head + dense)


def _refuse_too_large(config: Fields, network: Network) -> None:
    """Tables of more rows than the engine counts (native/model.cpp)."""
    for key, rows, most in (("vocab_size", network.vocabulary, 1 << 24), ("type_vocab_size", network.types, 1 << 10)):
        if (rows or 0) > most:
            raise config.wrong(key, f"one of the {most} at most that the native engine counts")


def _refuse_dense(folder: Path, spec: ModelSpec) -> None:
    """Dense layers that are wider, or more, than the engine has room for."""
    if len(spec.dense) > _MAX_DENSE:
        raise SpecError(
            f"{folder / 'modules.json'}: type: the native engine runs {_MAX_DENSE} dense layers, not {len(spec.dense)}"
        )
    for layer in spec.dense:
        if layer.out_features > MAX_WIDTH:
            raise SpecError(
                f"{(folder / layer.weights).with_name('config.json')}: out_features: {layer.out_features} is more than "
                f"the {MAX_WIDTH} of the native engine"
            )
