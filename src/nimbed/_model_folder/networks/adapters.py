"""Adapters of tasks (LoRA, Hu et al. 2021), merged into the weights that they change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nimbed._model_folder.networks.family import Source
from nimbed._model_folder.task_adapters import adapters_of
from nimbed.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Collection

    from nimbed._files.json import Fields
    from nimbed._model_folder.networks.family import Sources

    Array = np.ndarray[Any, np.dtype[Any]]

# What torch calls a weight that is computed from others.
_ORIGINAL = ".parametrizations.weight.original"
_LOW_RANK = ".parametrizations.weight.0.lora_"


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
        a, b = a[number].astype(np.float32), b[number].astype(np.float32)
        return fold(weight.astype(np.float32) + np.float32(scale) * (a @ b if table else b @ a))

    return Source(tensors=tensors, fold=merge)
