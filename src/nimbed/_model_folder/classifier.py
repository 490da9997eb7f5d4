"""What the files of a cross-encoder say: what makes its score, and the function between logit and score."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nimbed._files.json import read_json
from nimbed._model_folder.answers import MODULE
from nimbed._model_folder.modules import module_names, torch_activation
from nimbed._model_folder.pair_template import pair_template
from nimbed.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from nimbed._types import Activation

_SUFFIX = "ForSequenceClassification"
_LANGUAGE_MODEL = "ForCausalLM"
_ENCODERS = ("bert", "camembert", "distilbert", "electra", "gte", "modernbert", "mpnet", "new", "roberta",
             "xlm-roberta")  # fmt: skip
# These read their last token. transformers finds it by the padding's id: behind a template it is the template's own.
_DECODERS = ("qwen3",)


def scores_pairs(folder: Path, config: Mapping[str, Any], name: str, *, asked: bool = False) -> bool:
    """Whether a folder's network is a cross-encoder, and no pooling makes an embedder of it.

    That is a classifier, and a language model where the folder has a template for pairs or names the answers.

    Args:
        folder: the model folder.
        config: its ``config.json``.
        name: hub id or folder name.
        asked: whether the user says how it is to judge pairs.
    """
    modules = module_names(folder)
    if "Pooling" in modules or _architecture(config).endswith(_SUFFIX):
        return "Pooling" not in modules
    known = MODULE in modules or (not modules and bool(pair_template(folder, name, asked=asked)[0]))
    return is_language_model(config) and known


def is_language_model(config: Mapping[str, Any]) -> bool:
    """Whether the folder's network predicts tokens."""
    return _architecture(config).endswith(_LANGUAGE_MODEL)


def is_decoder(config: Mapping[str, Any]) -> bool:
    """Whether a cross-encoder reads its last token, behind a template for pairs."""
    return config.get("model_type") in _DECODERS


def read_classifier(folder: Path, config: Mapping[str, Any]) -> tuple[Activation, str]:
    """The function that makes a score of the logit, and where that is said.

    Raises:
        SpecError: there is more than one label, or something that cannot be honoured; names file and key.
    """
    path, answers = folder / "config.json", is_language_model(config)
    known = _DECODERS if answers else (*_ENCODERS, *_DECODERS)
    if config.get("model_type") not in known:
        raise SpecError(
            f"{path}: model_type: {config.get('model_type')!r} is no cross-encoder that nimbed knows "
            f"({', '.join(known)})"
        )
    # transformers writes the labels' names, and none for its own default of two.
    labels = len(config["id2label"]) if isinstance(config.get("id2label"), dict) else config.get("num_labels", 2)
    if not answers and labels != 1:
        raise SpecError(
            f"{path}: id2label: {_architecture(config)} with {labels} labels gives no single score; a reranker has 1"
        )
    own = ("Transformer", MODULE) if answers else ("Transformer",)
    if others := [name for name in module_names(folder) if name not in own]:
        raise SpecError(f"{folder / 'modules.json'}: type: a cross-encoder with {', '.join(others)} is not supported")
    return _activation(folder, config)


def _architecture(config: Mapping[str, Any]) -> str:
    named = config.get("architectures")
    return str(named[0]) if isinstance(named, list) and named else ""


def _activation(folder: Path, config: Mapping[str, Any]) -> tuple[Activation, str]:
    """As sentence-transformers' CrossEncoder looks for it: its own file, then config.json, new key before old."""
    own = folder / "config_sentence_transformers.json"
    content = read_json(own, missing={})
    if content.get("default_prompt_name") is not None and not is_decoder(config):
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
