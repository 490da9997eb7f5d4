"""Adapters of tasks (LoRA, Hu et al. 2021), merged into the weights that they change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nimbed._model_folder.networks.family import Source
from nimbed._model_folder.task_adapters import adapters_of
from nimbed._model_folder.weights import read_network
from nimbed.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from nimbed._files.json import Fields
    from nimbed._model_folder.networks.family import Sources
    from nimbed._model_folder.peft_adapter import PeftAdapter

    Array = np.ndarray[Any, np.dtype[Any]]

# What torch calls a weight that is computed from others.
_ORIGINAL = ".parametrizations.weight.original"
_LOW_RANK = ".parametrizations.weight.0.lora_"
# What PEFT puts before the names of the network that it adapts.
_PEFT = "base_model.model."


def has_adapters(names: Collection[str]) -> bool:
    """Whether a file has adapters beside its weights."""
    return any(_ORIGINAL in name for name in names)


def without_adapters(name: str) -> str:
    """The name of a weight, whether it has adapters or not."""
    return name.replace(_ORIGINAL, ".weight")


def merged(sources: Sources, config: Fields, names: Collection[str], adapter: str) -> Sources:
    """The sources, with the adapters of a task added to each weight that has them: ``alpha / rank * B A``.

    Args:
        sources: by plain names.
        config: with the keys ``lora_adaptations``, ``lora_rank`` and ``lora_alpha``.
        names: of the file's tensors.
        adapter: one of ``lora_adaptations``; empty to leave the weights as they are.

    Raises:
        SpecError: the folder has no such adapter.
    """
    tasks = adapters_of(config)
    if not tasks or (adapter and adapter not in tasks):
        raise SpecError(f"{config.where}: lora_adaptations: {list(tasks)} has no adapter {adapter!r}")
    rank = config.whole("lora_rank", default=4, minimum=1)
    number = tasks.index(adapter) if adapter else None
    scale = config.number("lora_alpha", default=1) / rank
    return {ours: _adapted(source, names, len(tasks), rank, number, scale) for ours, source in sources.items()}


def _adapted(source: Source, names: Collection[str], tasks: int, rank: int, number: int | None, scale: float) -> Source:
    if len(source.tensors) != 1:
        return source
    (name, shape), fold = next(iter(source.tensors.items())), source.fold
    original = name.removesuffix(".weight") + _ORIGINAL
    if original not in names:
        return source
    table = "embeddings." in name  # [rows, width]: the factors the other way round
    first, second = ((shape[0], rank), (rank, shape[1])) if table else ((rank, shape[1]), (shape[0], rank))
    low = name.removesuffix(".weight") + _LOW_RANK
    tensors = {original: shape, low + "A": (tasks, *first), low + "B": (tasks, *second)}

    def merge(weight: Array, a: Array, b: Array) -> Array:
        if number is None:
            return fold(weight)
        first, second = (b[number], a[number]) if not table else (a[number], b[number])
        return fold(_sum(weight, first, second, scale))

    return Source(tensors=tensors, fold=merge)


def _sum(weight: Array, first: Array, second: Array, scale: float) -> Array:
    wide = (one.astype(np.float32) for one in (weight, first, second))
    added: Array = next(wide) + np.float32(scale) * (next(wide) @ next(wide))
    return added


def with_peft(sources: Sources, adapter: PeftAdapter) -> tuple[Sources, Mapping[str, Array]]:
    """The sources, with an adapter of files of its own added to its targets, and the tensors that it has.

    Args:
        sources: by plain names.
        adapter: its settings.

    Raises:
        SpecError: a factor is missing, of another shape, or of no target.
    """
    stored = read_network(adapter.file)
    tensors = {name.removeprefix(_PEFT).removeprefix("model."): values for name, values in stored.items()}
    wanted = {
        part: shape
        for source in sources.values()
        if (pair := _factors(source, adapter))
        for part, shape in pair.items()
    }
    _check(adapter, tensors, wanted)
    return {ours: _with_factors(source, adapter) for ours, source in sources.items()}, tensors


def _factors(source: Source, adapter: PeftAdapter) -> dict[str, tuple[int, ...]]:
    """B and A of the weight that a source is; none where it is no target."""
    name, shape = next(iter(source.tensors.items()), ("", ()))
    module = name.removesuffix(".weight")
    if len(shape) != len("BA") or module == name or not name.startswith("layers.") or not adapter.has(module):
        return {}
    return {
        f"{module}.lora_B.weight": (shape[0], adapter.rank),
        f"{module}.lora_A.weight": (adapter.rank, shape[1]),
    }


def _with_factors(source: Source, adapter: PeftAdapter) -> Source:
    if not (pair := _factors(source, adapter)):
        return source

    def merge(weight: Array, first: Array, second: Array) -> Array:
        return source.fold(_sum(weight, first, second, adapter.scale))

    return Source(tensors={**source.tensors, **pair}, fold=merge)


def _check(adapter: PeftAdapter, tensors: Mapping[str, Array], wanted: Mapping[str, tuple[int, ...]]) -> None:
    for name, shape in wanted.items():
        if name not in tensors:
            raise SpecError(f"{adapter.file} lacks {name}, a factor of one of the target_modules of its settings")
        if tensors[name].shape != shape or tensors[name].dtype.kind != "f":
            raise SpecError(
                f"{adapter.file}: {name} has the shape {list(tensors[name].shape)} of {tensors[name].dtype}; by its "
                f"settings and config.json it is {list(shape)}, of floating-point numbers"
            )
    if extra := sorted(tensors.keys() - wanted.keys()):
        raise SpecError(
            f"{adapter.file}: {extra[0]} (and {len(extra) - 1} more) is no factor of a target of its settings"
        )
