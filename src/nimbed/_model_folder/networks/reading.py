"""A network's weights under the engine's names: read from its file when they are asked for, and folded on the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from nimbed._files.json import read_json
from nimbed._model_folder.networks.adapters import has_adapters, merged, with_peft, without_adapters
from nimbed._model_folder.networks.family import linear
from nimbed._model_folder.networks.heads import answering
from nimbed._model_folder.networks.table import family_of
from nimbed._model_folder.peft_adapter import read_adapter
from nimbed._model_folder.safetensors import release
from nimbed._model_folder.task_adapters import are_in_files
from nimbed._model_folder.weights import read_dense, read_network, usual_names
from nimbed.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from nimbed._model_folder.networks.description import Network
    from nimbed._model_folder.networks.family import Sources
    from nimbed._types import Float32Array, ModelSpec

    Array = np.ndarray[Any, np.dtype[Any]]

# Tensors of other heads than the one that is used begin so; what is saved at times of a network's constants ends so.
_UNREAD = (
    "classifier.", "cls.", "decoder.", "discriminator_predictions.", "generator_lm_head.", "generator_predictions.",
    "head.", "lm_head.", "pooler.", "pre_classifier.", "qa_outputs.", "vocab_layer_norm.", "vocab_projector.",
    "vocab_transform.",
)  # fmt: skip
_CONSTANTS = ("inv_freq", "position_ids", "token_type_ids")


class Weights(Mapping[str, "Float32Array"]):
    """float32 arrays by the engine's names. Each is read whenever it is asked for: keep what is needed twice.

    Args:
        tensors: of the file, views of it where it holds float32.
        sources: where each comes from.
    """

    def __init__(self, tensors: Mapping[str, Array], sources: Sources) -> None:
        self._tensors = tensors
        self._sources = sources

    def __getitem__(self, name: str) -> Float32Array:
        source = self._sources[name]
        made = source.fold(*(self._tensors[tensor] for tensor in source.tensors))
        weight: Float32Array = made.astype(np.float32, copy=False)
        return weight

    def release(self) -> None:
        """Give back the memory that pages of the file take."""
        release(self._tensors.values())

    def __iter__(self) -> Iterator[str]:
        return iter(self._sources)

    def __len__(self) -> int:
        return len(self._sources)


def read_weights(file: Path, folder: Path, network: Network, spec: ModelSpec, *, adapter: str = "") -> Weights:
    """All weights that the engine needs of a network.

    The names: ``words``, ``positions``, ``types`` and ``distances`` where it has such tables; ``embedding_norm``;
    ``layers.N.`` with ``query``, ``key``, ``value``, ``output``, ``attention_norm``, ``up``, ``gate`` (that which is
    activated, where there is one), ``down`` and ``output_norm``; ``head.N`` and ``head.N.norm``. All but the tables
    have a ``.weight`` ``[outputs, inputs]`` and a ``.bias``, of zeros where the network has none.

    Args:
        file: ``model.safetensors``, ``pytorch_model.bin``, or the ``.index.json`` of their parts.
        folder: the model folder.
        network: its description.
        spec: of the folder.
        adapter: that which is merged into the weights; without one they are as they are.

    Raises:
        SpecError: a tensor is missing, not finite, of another shape, or one that the description does not account for.
    """
    config = read_json(folder / "config.json")
    family = family_of(config)
    if family is None or family.name != network.family:
        raise SpecError(f"{config.where}: model_type is not that of the description: {network.family}")
    own = len(network.head) - len(spec.dense) - bool(spec.answers)
    base = replace(network, head=network.head[:own])
    stored = read_network(file)
    names = set(map(without_adapters, usual_names(file, stored)))
    prefix = _prefix(names, family.locate(base, config, names))
    tensors = {name: stored[theirs] for name, theirs in usual_names(file, stored, prefix).items()}
    sources = family.locate(base, config, set(map(without_adapters, tensors)))
    in_file = bool(adapter) and are_in_files(config)
    if has_adapters(tensors) or (adapter and not in_file):
        sources = merged(sources, config, tensors, adapter)
    if spec.answers:
        sources = {**sources, **answering(spec, network, config, tensors)}
    _check(file, prefix, tensors, sources)
    if in_file:
        sources, more = with_peft(sources, read_adapter(folder, adapter))
        tensors = {**tensors, **more}
    return Weights(*_with_dense(folder, spec, own, tensors, sources))


def _with_dense(
    folder: Path, spec: ModelSpec, number: int, tensors: Mapping[str, Array], sources: Sources
) -> tuple[Mapping[str, Array], Sources]:
    """The dense layers of ``modules.json``, behind as many layers of the network's own."""
    tensors, sources = dict(tensors), dict(sources)
    for i, dense in enumerate(spec.dense, number):
        tensors |= {f"head.{i}/{name}": values for name, values in read_dense(folder, dense).items()}
        sources |= linear(f"head.{i}", f"head.{i}/linear", dense.out_features, dense.in_features, bias=dense.bias)
    return tensors, sources


def _prefix(names: Collection[str], sources: Sources) -> str:
    """What stands before the names of the encoder: that of the class with a head, or nothing."""
    for wanted in (name for source in sources.values() for name in source.tensors):
        for name in names:
            if name == wanted or name.endswith(f".{wanted}"):
                return name.removesuffix(wanted)
    return ""


def _check(file: Path, prefix: str, tensors: Mapping[str, Array], sources: Sources) -> None:
    wanted = {name: shape for source in sources.values() for name, shape in source.tensors.items()}
    if missing := [name for name in wanted if name not in tensors]:
        raise SpecError(f"{file} lacks {prefix}{missing[0]} (and {len(missing) - 1} more)")
    for name, shape in wanted.items():
        if tensors[name].shape != shape:
            raise SpecError(
                f"{file}: {prefix}{name} has the shape {list(tensors[name].shape)}, config.json says {list(shape)}"
            )
        if tensors[name].dtype.kind != "f":
            raise SpecError(f"{file}: {prefix}{name} is of {tensors[name].dtype}, not of floating-point numbers")
    unread = (name for name in tensors if not name.startswith(_UNREAD) and not name.endswith(_CONSTANTS))
    extra = [name for name in unread if name not in wanted]
    if extra:
        raise SpecError(
            f"{file}: {prefix}{extra[0]} (and {len(extra) - 1} more) is no tensor of the network that config.json "
            "describes: the native engine would compute something else"
        )
