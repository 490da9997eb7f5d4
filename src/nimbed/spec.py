"""Model folder in, frozen ModelSpec out. Nothing is guessed in silence, and no code of the folder is run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

from nimbed._files.json import read_json, shown
from nimbed._model_folder import families
from nimbed._model_folder.answers import read_answers
from nimbed._model_folder.classifier import is_decoder, is_language_model, read_classifier, scores_pairs
from nimbed._model_folder.max_length import max_length_of, positions_of
from nimbed._model_folder.modules import MAX_WIDTH, POOLINGS, ModuleReader, transformer_settings
from nimbed._model_folder.networks.table import knows
from nimbed._model_folder.pair_template import needed_template
from nimbed._model_folder.prompt_tasks import instruction_of, with_task
from nimbed._model_folder.prompts import read_prompts
from nimbed._model_folder.task_adapters import adapters_of, are_in_files, chosen_adapters
from nimbed._types import INSTRUCTION, DenseSpec, ModelSpec, Pooling
from nimbed.errors import InputError, ModelNotFoundError, SpecError

if TYPE_CHECKING:
    from pathlib import Path

    from nimbed._files.json import Fields

__all__ = ["SpecOverrides", "read_spec", "spec_from_dict"]

# What hidden_size is called by DistilBERT, XLNet and T5, and GPT-2.
_WIDTHS = ("dim", "d_model", "n_embd")
_GRAPH_FILES = ("openvino/*.xml", "onnx/*.onnx", "*.xml", "*.onnx")


@dataclass(frozen=True, kw_only=True)
class SpecOverrides:
    """Settings that take precedence over what the model folder says.

    Attributes:
        pooling: "cls", "lasttoken", "max", "mean" or "weightedmean"; None does what the folder says.
        prompts: prompts by role ("query", "document"); an empty string turns a prompt off. Of a reranker that has one,
            "instruction": what makes a document a match.
        normalize: whether vectors have L2 norm 1; None does what the folder says.
        task: what the vectors are for. Of a model with adapters for tasks or with prompts by the names of tasks, one of
            these names, such as "text-matching" or "Clustering"; of a model with an instruction in its query's prompt,
            also a sentence of yours in its place. None is retrieval, or the instruction of the model's own.
    """

    pooling: Pooling | None = None
    prompts: Mapping[str, str] = field(default_factory=dict)
    normalize: bool | None = None
    task: str | None = None

    def __post_init__(self) -> None:
        if self.pooling is not None and self.pooling not in POOLINGS:
            raise InputError(f"pooling={self.pooling!r} is not one of {', '.join(POOLINGS)}")
        if self.normalize is not None and not isinstance(self.normalize, bool):
            raise InputError(f"normalize={self.normalize!r} must be True or False, or None")
        if self.task is not None and not isinstance(self.task, str):
            raise InputError(f"task={self.task!r} must be a string, or None")
        if not isinstance(self.prompts, Mapping):
            raise InputError(f"prompts={self.prompts!r} must be a dictionary of prompts by role")
        for name, text in self.prompts.items():
            if not isinstance(text, str):
                raise InputError(f"prompts[{name!r}] must be a string, not {type(text).__name__}; '' turns it off")

    def apply(self, spec: ModelSpec, name: str) -> ModelSpec:
        """The spec with the prompts of this task, and these prompts laid over them.

        Args:
            spec: of a model folder or an artefact, whose adapters are chosen.
            name: hub id or name by which the family table is asked.

        Raises:
            InputError: the model has no such task, the prompts leave nothing of it, or it is a cross-encoder that has
                no such prompt.
        """
        if not spec.adapters:
            family = families.find(name)
            spec = with_task(spec, self.task, {} if family is None else family.tasks, self.prompts)
        if not self.prompts:
            return spec
        if spec.task == "scoring" and (others := [name for name in self.prompts if name not in spec.prompts]):
            known = f"only {', '.join(spec.prompts)}" if spec.prompts else "no prompts"
            raise InputError(f"SpecOverrides(prompts=...): a cross-encoder has no {others[0]!r}; this one has {known}")
        origins = {**spec.origins, **{f"prompt {name}": "set by the user" for name in self.prompts}}
        plain = {name: str.__str__(text) for name, text in self.prompts.items()}  # not a subclass with ways of its own
        task = instruction_of(plain["query"]) if "query" in plain else spec.prompt_task
        return replace(spec, prompts={**spec.prompts, **plain}, prompt_task=task, origins=origins)


def read_spec(folder: Path, *, name: str | None = None, overrides: SpecOverrides | None = None) -> ModelSpec:
    """Read the spec of a sentence-transformers or plain transformers folder, a cross-encoder's included.

    Args:
        folder: the model folder.
        name: hub id or name by which the family table is asked; the folder's name by default.
        overrides: the user's word, which goes before the folder's.

    Raises:
        ModelNotFoundError: the folder or its ``config.json`` is missing.
        SpecError: a file is damaged or says something that cannot be honoured.
    """
    overrides = overrides or SpecOverrides()
    config = _config(folder)
    asked = INSTRUCTION in overrides.prompts and overrides.pooling is None
    if scores_pairs(folder, config, name or folder.name, asked=asked):
        return _scoring_spec(folder, config, name or folder.name, overrides)
    family = families.find(name or folder.name)
    width = config.whole("hidden_size", *_WIDTHS, minimum=1, maximum=MAX_WIDTH)
    chooses = bool(adapters_of(config)) and knows(config)
    reader = ModuleReader(folder, width, adapters=chooses, pools=are_in_files(config))
    reader.read()
    pooling, pooling_origin = _choose_pooling(folder, reader.pooling, family, overrides)
    normalize, normalize_origin = _choose_normalize(reader, family, overrides)
    max_length, length_origin = max_length_of(folder, config)
    adapters = chosen_adapters(config, overrides.task)
    prompts, prompt_origins = read_prompts(folder, config, family, adapters)
    origins = {
        "pooling": pooling_origin,
        "normalize": normalize_origin,
        "max_length": length_origin,
        **prompt_origins,
        **({"task": "the model's adapters" if overrides.task is None else "set by the user"} if adapters else {}),
    }
    _refuse_cut(folder)
    spec = ModelSpec(
        architecture=config.text("model_type", default="unknown"),
        hidden_size=reader.hidden_size,
        dim=reader.dense[-1].out_features if reader.dense else reader.hidden_size,
        pooling=pooling,
        normalize=normalize,
        max_length=max_length,
        positions=positions_of(config),
        dense=tuple(reader.dense),
        prompts=prompts,
        similarity=_sentence_config(folder).text("similarity_fn_name", default="cosine"),
        center_before_cut=family is not None and family.center_before_cut,
        dims=_dims(config, family),
        adapters=adapters,
        origins=origins,
        **_text_settings(folder),
    )
    return overrides.apply(spec, name or folder.name)


def _dims(config: Fields, family: families.Family | None) -> tuple[int, ...]:
    """The folder's own list goes before the family's."""
    listed = config.get("matryoshka_dimensions")
    if listed is None:
        return () if family is None else family.dims
    if not isinstance(listed, list) or not all(type(dim) is int and 0 < dim <= MAX_WIDTH for dim in listed):
        raise config.wrong("matryoshka_dimensions", "a list of widths")
    return tuple(sorted(set(listed), reverse=True))


def _scoring_spec(folder: Path, config: Fields, name: str, overrides: SpecOverrides) -> ModelSpec:
    if overrides != SpecOverrides(prompts=overrides.prompts):
        raise InputError(f"{folder} is a cross-encoder: it has no pooling, no normalize and no task to say")
    activation, activation_origin = read_classifier(folder, config)
    max_length, length_origin = max_length_of(folder, config)
    asked = INSTRUCTION in overrides.prompts
    template, prompts = needed_template(folder, name, asked=asked) if is_decoder(config) else ((), {})
    spec = ModelSpec(
        architecture=config.text("model_type"),
        hidden_size=config.whole("hidden_size", *_WIDTHS, minimum=1, maximum=MAX_WIDTH),
        dim=1,
        pooling="lasttoken" if is_decoder(config) else "cls",
        normalize=False,
        max_length=max_length,
        positions=positions_of(config),
        prompts=prompts,
        task="scoring",
        activation=activation,
        template=template,
        answers=read_answers(folder, config) if is_language_model(config) else (),
        origins={"activation": activation_origin, "max_length": length_origin},
        **_text_settings(folder),
    )
    return overrides.apply(spec, name)


def _text_settings(folder: Path) -> dict[str, Any]:
    tokenizer_config = read_json(folder / "tokenizer_config.json", missing={})
    return {
        "truncation_side": "left" if tokenizer_config.get("truncation_side") == "left" else "right",
        "lowercase": transformer_settings(folder)[1].flag("do_lower_case", default=False),
    }


def spec_from_dict(values: Mapping[str, Any]) -> ModelSpec:
    """The spec that ``dataclasses.asdict`` made into a dictionary (as JSON gives it back)."""
    dense = tuple(DenseSpec(**d) for d in values.get("dense", ()))
    lists = {name: tuple(values.get(name, ())) for name in ("dims", "template", "answers")}
    return ModelSpec(**{**values, "dense": dense, **lists})


def _config(folder: Path) -> Fields:
    if not folder.is_dir():
        raise ModelNotFoundError(f"{folder}: no such model folder")
    if (adapter := folder / "adapter_config.json").is_file():
        base = shown(read_json(adapter).get("base_model_name_or_path"))
        raise SpecError(
            f"{adapter}: base_model_name_or_path: {base}: this folder is an adapter without its base, which nimbed "
            "does not fetch unasked; merge it into its base: "
            "peft.AutoPeftModel.from_pretrained(folder).merge_and_unload().save_pretrained(merged_folder)"
        )
    path = folder / "config.json"
    if not path.is_file():
        raise ModelNotFoundError(
            f"{path} is missing: this is neither a sentence-transformers nor a transformers folder"
        )
    config: Fields = read_json(path)
    config.text("model_type", default=None)
    has_graph = any(next(folder.glob(pattern), None) for pattern in _GRAPH_FILES)
    if "auto_map" in config and not has_graph and not knows(config):
        raise SpecError(
            f"{path}: auto_map: this model needs remote code, which nimbed never runs, and its network is none that "
            "nimbed knows by its settings; use a folder that also holds openvino/*.xml or onnx/model.onnx"
        )
    return config


def _choose_pooling(
    folder: Path, listed: str | None, family: families.Family | None, overrides: SpecOverrides
) -> tuple[Pooling, str]:
    if overrides.pooling is not None:
        return overrides.pooling, "set by the user"
    if listed is not None:
        return cast(Pooling, listed), "modules.json"
    if family is not None and family.pooling is not None:
        return family.pooling, f"family table: {family.name}"
    how = f"give it: spec=SpecOverrides(pooling=...) with one of {', '.join(POOLINGS)}"
    if is_language_model(config := read_json(folder / "config.json")):
        raise SpecError(
            f"{config.where}: architectures: {shown(config['architectures'])}: a language model may be an embedder or "
            f"a reranker, and nothing in its folder says which. For an embedder's pooling, {how}; if it judges pairs "
            f'as Qwen3-Reranker does, give a reranker spec=SpecOverrides(prompts={{"{INSTRUCTION}": ...}})'
        )
    raise SpecError(
        f"{folder}: modules.json names no pooling, and the model is of no family whose pooling is known; {how}"
    )


def _choose_normalize(
    reader: ModuleReader, family: families.Family | None, overrides: SpecOverrides
) -> tuple[bool, str]:
    if overrides.normalize is not None:
        return overrides.normalize, "set by the user"
    if reader.listed:
        return reader.normalize, "modules.json"
    if family is not None:
        return family.normalize, f"family table: {family.name}"
    return False, "plain transformers folder: none"


def _refuse_cut(folder: Path) -> None:
    said = _sentence_config(folder)
    if (dim := said.get("truncate_dim")) is not None:
        raise SpecError(
            f"{said.where}: truncate_dim: {shown(dim)}: vectors are cut where you say so: remove it, and open "
            "the folder with dim="
        )


def _sentence_config(folder: Path) -> Fields:
    return cast("Fields", read_json(folder / "config_sentence_transformers.json", missing={}))
