"""Model folders as sentence-transformers and transformers write them, and a check of how reading one fails."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from nimbed._loading.candidate import Candidate
from nimbed._loading.hub import Source, resolve
from nimbed.errors import NimbedError, SpecError
from nimbed.spec import SpecOverrides, read_spec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

BERT = {"model_type": "bert", "hidden_size": 32, "max_position_embeddings": 64}
OLD = {kind: f"sentence_transformers.models.{kind}" for kind in ("Transformer", "Pooling", "Dense", "Normalize")}
NEW = {
    "Transformer": "sentence_transformers.base.modules.transformer.Transformer",
    "Pooling": "sentence_transformers.sentence_transformer.modules.pooling.Pooling",
    "Dense": "sentence_transformers.base.modules.dense.Dense",
    "Normalize": "sentence_transformers.base.modules.normalize.Normalize",
}
DENSE = {
    "in_features": 32,
    "out_features": 8,
    "bias": False,
    "activation_function": "torch.nn.modules.activation.Tanh",
}


def write(
    folder: Path,
    kinds: Sequence[str] = ("Transformer", "Pooling"),
    files: Mapping[str, Any] | None = None,
    *,
    types: Mapping[str, str] = OLD,
) -> Path:
    """A folder with these modules and these files; a file whose content is None is left out."""
    modules = [
        {
            "idx": i,
            "name": str(i),
            "path": "" if kind == "Transformer" else f"{i}_{kind}",
            "type": types.get(kind, kind),
        }
        for i, kind in enumerate(kinds)
    ]
    contents = {
        "config.json": BERT,
        "modules.json": modules or None,
        "1_Pooling/config.json": {"pooling_mode": "mean"},
        **(files or {}),
    }
    for name, content in contents.items():
        if content is not None:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def candidate_of(
    folder: Path,
    engine: str = "openvino",
    source: Source = Source(),  # noqa: B008 (frozen)
    overrides: SpecOverrides | None = None,
) -> Candidate:
    """A model folder with an engine chosen for it."""
    return Candidate(source=resolve(folder, source), spec=read_spec(folder, overrides=overrides), engine=engine)


def refused(folder: Path, *named: str, error: type[NimbedError] = SpecError) -> None:
    """Reading must fail with a message that holds these words (the folder's own path aside): file, key, value."""
    with pytest.raises(error) as caught:
        read_spec(folder)
    message = str(caught.value).replace(str(folder), "FOLDER")
    assert message.startswith("FOLDER")
    for word in named:
        assert word in message
