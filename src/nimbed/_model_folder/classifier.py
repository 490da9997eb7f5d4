"""What the files of a cross-encoder say: one label, and the function between logit and score."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nimbed._files.json import read_json
from nimbed._model_folder.modules import module_names, torch_activation
from nimbed.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from nimbed._types import Activation

_SUFFIX = "ForSequenceClassification"
# Decoders read their last token, which these networks find by the padding's id: not held against torch here.
_ENCODERS = ("bert", "camembert", "distilbert", "electra", "gte", "modernbert", "mpnet", "new", "roberta",
             "xlm-roberta")  # fmt: skip


def scores_pairs(folder: Path, config: Mapping[str, Any]) -> bool:
    """Whether a folder's network is a classifier, as cross-encoders are, and no pooling makes an embedder of it."""
    return _architecture(config).endswith(_SUFFIX) and "Pooling" not in module_names(folder)


def read_classifier(folder: Path, config: Mapping[str, Any]) -> tuple[Activation, str]:
    """The function that makes a score of the logit, and where that is said.

    Raises:
        SpecError: there is more than one label, or something that cannot be honoured; names file and key.
    """
    path = folder / "config.json"
    if config.get("model_type") not in _ENCODERS:
        raise SpecError(
            f"{path}: model_type: {config.get('model_type')!r} is no cross-encoder that nimbed knows "
            f"({', '.join(_ENCODERS)})"
        )
    # transformers writes the labels' names, and none for its own default of two.
    labels = len(config["id2label"]) if isinstance(config.get("id2label"), dict) else config.get("num_labels", 2)
    if labels != 1:
        raise SpecError(
            f"{path}: id2label: {_architecture(config)} with {labels} labels gives no single score; a reranker has 1"
        )
    if others := [name for name in module_names(folder) if name != "Transformer"]:
        raise SpecError(f"{folder / 'modules.json'}: type: a cross-encoder with {', '.join(others)} is not supported")
    return _activation(folder, config)


def _architecture(config: Mapping[str, Any]) -> str:
    named = config.get("architectures")
    return str(named[0]) if isinstance(named, list) and named else ""


def _activation(folder: Path, config: Mapping[str, Any]) -> tuple[Activation, str]:
    """As sentence-transformers' CrossEncoder looks for it: its own file, then config.json, new key before old."""
    own = folder / "config_sentence_transformers.json"
    content = read_json(own, missing={})
    if content.get("default_prompt_name") is not None:
        raise SpecError(f"{own}: default_prompt_name: prompts of a cross-encoder are not supported")
    newer = config.get("sentence_transformers")
    places = (
        (own, "activation_fn", content.get("activation_fn")),
        (folder / "config.json", "activation_fn", newer.get("activation_fn") if isinstance(newer, dict) else None),
        (folder / "config.json", (old := "sbert_ce_default_activation_function"), config.get(old)),
    )
    for path, key, name in places:
        if name is not None:
            return torch_activation(path, key, str(name)), f"{path.name}: {key}"
    return "sigmoid", "sentence-transformers' default for one label"
