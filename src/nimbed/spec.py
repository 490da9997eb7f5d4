"""Model folder in, frozen ModelSpec out. Nothing is guessed in silence, and no code of the folder is run."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast, get_args

from nimbed import _families
from nimbed._types import DenseSpec, ModelSpec, Pooling
from nimbed.errors import InputError, ModelNotFoundError, SpecError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["SpecOverrides", "read_spec", "spec_from_dict"]

POOLINGS: tuple[str, ...] = get_args(Pooling)
_LEGACY_POOLING = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_ACTIVATIONS = {"GELU": "gelu", "Identity": "identity", "ReLU": "relu", "Sigmoid": "sigmoid", "Tanh": "tanh"}
# sentence-transformers' names for a document's prompt, in the order in which it looks for them; "text" is LlamaIndex's.
_DOCUMENT_NAMES = ("document", "passage", "corpus", "text")
_GRAPH_FILES = ("openvino/*.xml", "onnx/*.onnx", "*.xml", "*.onnx")


@dataclass(frozen=True, kw_only=True)
class SpecOverrides:
    """What the user says instead of the model folder.

    Attributes:
        pooling: "cls", "lasttoken", "max", "mean" or "weightedmean"; None takes the folder's word.
        prompts: by role ("query", "document"); an empty string turns a prompt off.
        normalize: whether vectors have L2 norm 1; None takes the folder's word.
    """

    pooling: Pooling | None = None
    prompts: Mapping[str, str] = field(default_factory=dict)
    normalize: bool | None = None

    def __post_init__(self) -> None:
        if self.pooling is not None and self.pooling not in POOLINGS:
            raise InputError(f"pooling={self.pooling!r} is not one of {', '.join(POOLINGS)}")
        for name, text in self.prompts.items():
            if not isinstance(text, str):
                raise InputError(f"prompts[{name!r}] must be a string, not {type(text).__name__}; '' turns it off")

    def apply_prompts(self, spec: ModelSpec) -> ModelSpec:
        """The spec with these prompts laid over its own."""
        if not self.prompts:
            return spec
        origins = {**spec.origins, **{f"prompt {name}": "set by the user" for name in self.prompts}}
        return replace(spec, prompts={**spec.prompts, **self.prompts}, origins=origins)


def read_spec(folder: Path, *, name: str | None = None, overrides: SpecOverrides | None = None) -> ModelSpec:
    """Read the spec of a sentence-transformers or plain transformers folder.

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
    family = _families.find(name or folder.name)
    reader = _ModuleReader(folder, int(_require(config, "hidden_size", folder / "config.json", fallback="dim")))
    reader.read()
    pooling, pooling_origin = _choose_pooling(folder, reader.pooling, family, overrides)
    normalize, normalize_origin = _choose_normalize(reader, family, overrides)
    max_length, length_origin = _max_length(folder, config)
    prompts, prompt_origins = _prompts(folder, family)
    origins = {"pooling": pooling_origin, "normalize": normalize_origin, "max_length": length_origin, **prompt_origins}
    tokenizer_config = _json(folder / "tokenizer_config.json", missing={})
    spec = ModelSpec(
        architecture=str(config.get("model_type", "unknown")),
        hidden_size=reader.hidden_size,
        dim=reader.dense[-1].out_features if reader.dense else reader.hidden_size,
        pooling=pooling,
        normalize=normalize,
        max_length=max_length,
        positions=_positions(config),
        dense=tuple(reader.dense),
        prompts=prompts,
        similarity=str(_sentence_config(folder).get("similarity_fn_name") or "cosine"),
        truncation_side="left" if tokenizer_config.get("truncation_side") == "left" else "right",
        lowercase=bool(_json(folder / "sentence_bert_config.json", missing={}).get("do_lower_case", False)),
        origins=origins,
    )
    return overrides.apply_prompts(spec)


def spec_from_dict(values: Mapping[str, Any]) -> ModelSpec:
    """The spec that ``dataclasses.asdict`` made into a dictionary (as JSON gives it back)."""
    dense = tuple(DenseSpec(**d) for d in values.get("dense", ()))
    return ModelSpec(**{**values, "dense": dense})


class _ModuleReader:
    """Reads ``modules.json``: a Transformer, a Pooling, then any Dense layers, then perhaps Normalize."""

    def __init__(self, folder: Path, hidden_size: int) -> None:
        self.folder = folder
        self.hidden_size = hidden_size
        self.pooling: str | None = None
        self.dense: list[DenseSpec] = []
        self.normalize = False
        self.listed = False

    def read(self) -> None:
        path = self.folder / "modules.json"
        modules = _json(path, missing=None)
        if modules is None:
            return
        self.listed = True
        for module in modules:
            kind = str(module.get("type", ""))
            handler = getattr(self, f"_read_{kind.rpartition('.')[2].lower()}", None)
            if not kind.startswith("sentence_transformers.") or handler is None:
                raise SpecError(
                    f"{path}: type {kind!r} is a module that nimbed cannot honour (it knows Transformer, Pooling, "
                    "Dense and Normalize, and never runs a folder's own code); use another model"
                )
            if self.normalize:
                raise SpecError(f"{path}: {kind!r} after Normalize; nimbed normalises last")
            handler(self.folder / str(module.get("path", "")))

    def _read_transformer(self, folder: Path) -> None:
        if folder.resolve() != self.folder.resolve():
            raise SpecError(f"{self.folder / 'modules.json'}: path: the transformer lies in {folder.name!r}, not beside it")

    def _read_pooling(self, folder: Path) -> None:
        path = folder / "config.json"
        config = _json(path)
        if config.get("include_prompt", True) is False:
            raise SpecError(f"{path}: include_prompt: false (pooling without the prompt) is not supported")
        modes = config.get("pooling_mode") or [m for key, m in _LEGACY_POOLING.items() if config.get(key)]
        modes = [modes] if isinstance(modes, str) else list(modes)
        if len(modes) != 1 or modes[0] not in POOLINGS:
            raise SpecError(f"{path}: pooling_mode: {modes} is not supported; one of {', '.join(POOLINGS)} is")
        width = config.get("embedding_dimension", config.get("word_embedding_dimension", self.hidden_size))
        if width != self.hidden_size:
            raise SpecError(f"{path}: embedding_dimension: {width}, but config.json has hidden_size {self.hidden_size}")
        self.pooling = modes[0]

    def _read_dense(self, folder: Path) -> None:
        path = folder / "config.json"
        config = _json(path)
        name = str(config.get("activation_function", "torch.nn.modules.activation.Tanh"))
        activation = _ACTIVATIONS.get(name.rpartition(".")[2]) if name.startswith("torch.nn.") else None
        if activation is None:
            raise SpecError(f"{path}: activation_function: {name!r} is not one of {', '.join(_ACTIVATIONS)} of torch.nn")
        if config.get("use_residual") or config.get("module_input_name", "sentence_embedding") != "sentence_embedding":
            raise SpecError(f"{path}: use_residual / module_input_name: only a plain layer on the sentence vector is known")
        if not (folder / "model.safetensors").is_file():
            raise SpecError(f"{folder}: model.safetensors is missing; weights are read from safetensors only")
        self.dense.append(
            DenseSpec(
                weights=(folder / "model.safetensors").relative_to(self.folder).as_posix(),
                in_features=int(_require(config, "in_features", path)),
                out_features=int(_require(config, "out_features", path)),
                bias=bool(config.get("bias", True)),
                activation=cast(Any, activation),
            )
        )

    def _read_normalize(self, folder: Path) -> None:  # noqa: ARG002 (it has no settings)
        self.normalize = True


def _config(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise ModelNotFoundError(f"{folder}: no such model folder")
    path = folder / "config.json"
    if not path.is_file():
        raise ModelNotFoundError(f"{path} is missing: this is neither a sentence-transformers nor a transformers folder")
    config: dict[str, Any] = _json(path)
    has_graph = any(next(folder.glob(pattern), None) for pattern in _GRAPH_FILES)
    if "auto_map" in config and not has_graph:
        raise SpecError(
            f"{path}: auto_map: this model needs remote code, which nimbed never runs; "
            "use a folder that also holds openvino/*.xml or onnx/model.onnx"
        )
    return config


def _choose_pooling(
    folder: Path, listed: str | None, family: _families.Family | None, overrides: SpecOverrides
) -> tuple[Pooling, str]:
    if overrides.pooling is not None:
        return overrides.pooling, "set by the user"
    if listed is not None:
        return cast(Pooling, listed), "modules.json"
    if family is not None:
        return family.pooling, f"family table: {family.name}"
    raise SpecError(
        f"{folder}: modules.json names no pooling, and the model is of no known family; "
        f"give it: spec=SpecOverrides(pooling=...) with one of {', '.join(POOLINGS)}"
    )


def _choose_normalize(
    reader: _ModuleReader, family: _families.Family | None, overrides: SpecOverrides
) -> tuple[bool, str]:
    if overrides.normalize is not None:
        return overrides.normalize, "set by the user"
    if reader.listed:
        return reader.normalize, "modules.json"
    if family is not None:
        return family.normalize, f"family table: {family.name}"
    return False, "plain transformers folder: none"


def _max_length(folder: Path, config: Mapping[str, Any]) -> tuple[int, str]:
    """The folder's own limit, but never more positions than the network has."""
    positions = _positions(config)
    for name, key in (("sentence_bert_config.json", "max_seq_length"), ("tokenizer_config.json", "model_max_length")):
        value = _json(folder / name, missing={}).get(key)
        # Tokenizers without a limit say 1e30.
        if isinstance(value, (int, float)) and 0 < value < 1e9:
            if positions is not None and value > positions:
                return positions, f"config.json: max_position_embeddings (below {name}: {key})"
            return int(value), f"{name}: {key}"
    if positions is None:
        raise SpecError(f"{folder}: no max_seq_length, model_max_length or max_position_embeddings in its files")
    return positions, "config.json: max_position_embeddings"


def _positions(config: Mapping[str, Any]) -> int | None:
    value = config.get("max_position_embeddings", config.get("n_positions"))
    if not isinstance(value, int):
        return None
    # RoBERTa and its kin count positions from pad_token_id + 1.
    offset = int(config.get("pad_token_id") or 0) + 1 if config.get("model_type") in _families.OFFSET_POSITIONS else 0
    return value - offset


def _prompts(folder: Path, family: _families.Family | None) -> tuple[dict[str, str], dict[str, str]]:
    """The folder's prompts; where it leaves a role's out (or empty, as sentence-transformers writes it), the family's."""
    config = _sentence_config(folder)
    given = {str(k): str(v) for k, v in (config.get("prompts") or {}).items() if v}
    document = next((given[name] for name in _DOCUMENT_NAMES if name in given), None)
    default = given.get(str(config.get("default_prompt_name")))
    roles = {"query": given.get("query", default), "document": document if document is not None else default}
    prompts, origins = dict(given), {}
    for role, text in roles.items():
        if text is not None:
            prompts[role], origins[f"prompt {role}"] = text, "config_sentence_transformers.json"
        elif family is not None and (own := getattr(family, role)):
            prompts[role], origins[f"prompt {role}"] = own, f"family table: {family.name}"
    return prompts, origins


def _sentence_config(folder: Path) -> dict[str, Any]:
    return cast("dict[str, Any]", _json(folder / "config_sentence_transformers.json", missing={}))


def _require(config: Mapping[str, Any], key: str, path: Path, fallback: str | None = None) -> Any:  # noqa: ANN401 (JSON)
    value = config.get(key, config.get(fallback) if fallback else None)
    if not isinstance(value, int):
        raise SpecError(f"{path}: {key} is missing or not a whole number")
    return value


_REQUIRED: Any = object()


def _json(path: Path, *, missing: Any = _REQUIRED) -> Any:  # noqa: ANN401 (JSON)
    """A JSON file's content; ``missing`` where there is no such file."""
    if missing is not _REQUIRED and not path.is_file():
        return missing
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as err:
        raise SpecError(f"{path} is missing") from err
    except (OSError, ValueError) as err:
        raise SpecError(f"{path} cannot be read as JSON: {err}; fetch the folder again") from err
