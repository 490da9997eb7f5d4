"""jina-embeddings-v5-text (Akram et al. 2026): EuroBERT or Qwen3 with an adapter for each task, in files of its own."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from nimbed._model_folder.networks.eurobert import EUROBERT
from nimbed._model_folder.networks.qwen3 import QWEN3
from nimbed._model_folder.task_adapters import IN_FILES

if TYPE_CHECKING:
    from nimbed._files.json import Fields
    from nimbed._model_folder.networks.description import Network
    from nimbed._model_folder.networks.family import Family
    from nimbed._types import ModelSpec


def _of(base: Family, name: str, *, decoder: bool) -> Family:
    def describe(config: Fields, spec: ModelSpec) -> Network:
        return replace(base.describe(config, spec), family=name)

    return replace(
        base,
        name=name,
        types=(IN_FILES,),
        classes=("JinaEmbeddingsV5",),
        applies=lambda config: config.flag("is_decoder", default=True) == decoder,
        honours=base.honours | {"is_decoder"},
        describe=describe,
    )


JINA_V5_NANO = _of(EUROBERT, "jina-v5-nano", decoder=False)
JINA_V5_SMALL = _of(QWEN3, "jina-v5-small", decoder=True)
