"""The module list of a sentence-transformers folder, in the old form and in that of release 6."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

from nimbed._files.json import read_json, shown
from nimbed._files.names import path_within
from nimbed._types import DenseSpec, Pooling
from nimbed.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from nimbed._files.json import Fields
    from nimbed._types import Activation

POOLINGS: tuple[str, ...] = get_args(Pooling)
_LEGACY_POOLING = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
# Where sentence-transformers looks for the transformer's settings, in this order.
_SETTINGS = ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
# Wider than any embedding, and narrow enough that a vector can be made.
MAX_WIDTH = 1 << 20
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_ORDER = ("Transformer", "Pooling", "Dense", "Normalize")
_TRANSFORMER = "sentence_transformers.models.Transformer"
# jina-embeddings-v3's, which has no settings but the task of a call; v5's pools the last token and normalizes too.
_CHOOSING = "custom_st.Transformer"
_CALLS, _POOLING_CALLS = ["task"], ["task", "truncate_dim"]
# What sentence-transformers hands to the tokenizer or the network, or cuts a role's texts at, and nimbed does not.
_HANDED_ON = (
    *("config_args", "config_kwargs", "model_args", "model_kwargs", "processing_kwargs", "processor_kwargs"),
    *("tokenizer_args", "tokenizer_name_or_path", "query_length", "document_length", "query_expansion"),
)
# Of these the words that change no vector, and those for other things than text.
_HARMLESS = {
    *("add_pooling_layer", "attn_implementation", "device_map", "dtype", "low_cpu_mem_usage", "torch_dtype"),
    *("padding", "trust_remote_code", "use_cache", "use_fast", "use_safetensors"),
    *("audio", "chat_template", "image", "video"),
}
_ACTIVATIONS: dict[str, Activation] = {
    "GELU": "gelu",
    "Identity": "identity",
    "ReLU": "relu",
    "Sigmoid": "sigmoid",
    "Tanh": "tanh",
}


class ModuleReader:
    """Reads ``modules.json``: a Transformer, a Pooling, then any Dense layers, then perhaps Normalize.

    Args:
        folder: of the model.
        hidden_size: width of a token's vector.
        adapters: whether the network is known, and has adapters for tasks: then the Transformer may be a class of the
            folder's own that only chooses among them.
        pools: whether that class pools the last token and normalizes.
    """

    def __init__(self, folder: Path, hidden_size: int, *, adapters: bool = False, pools: bool = False) -> None:
        self.folder = folder
        self.adapters = adapters
        self.pools = pools
        self.hidden_size = hidden_size
        self.pooling: str | None = None
        self.dense: list[DenseSpec] = []
        self.normalize = False
        self.listed = False

    def read(self) -> None:
        path = self.folder / "modules.json"
        modules = read_json(path, missing=None, kind=list)
        if modules is None:
            return
        self.listed = True
        before = ""
        for module in modules:
            if not isinstance(module, dict):
                raise SpecError(f"{path}: a module is described by {module!r}, not by an object with type and path")
            kind = self._known_as(module)
            name = kind.rpartition(".")[2]
            if not kind.startswith("sentence_transformers.") or name not in _ORDER:
                raise SpecError(
                    f"{path}: type {kind!r} is a module that nimbed cannot honour (it knows {', '.join(_ORDER)}, "
                    "and never runs a folder's own code); use another model"
                )
            if before and (_ORDER.index(name) < _ORDER.index(before) or name == before != "Dense"):
                raise SpecError(f"{path}: type {kind!r} after {before}; the order known is {', '.join(_ORDER)}")
            getattr(self, f"_read_{name.lower()}")(_folder_of(self.folder, module, path))
            before = name

    def _known_as(self, module: dict[str, Any]) -> str:
        """The module's type, or what it stands for."""
        kind = str(module.get("type", ""))
        calls = _POOLING_CALLS if self.pools else _CALLS
        if not self.adapters or kind != _CHOOSING or module.get("kwargs", calls) != calls:
            return kind
        if self.pools:
            self.pooling, self.normalize = "lasttoken", True
        return _TRANSFORMER

    def _read_transformer(self, folder: Path) -> None:
        if folder.resolve() != self.folder.resolve():
            raise SpecError(
                f"{self.folder / 'modules.json'}: path: the transformer lies in {folder.name!r}, not beside it"
            )
        path, config = transformer_settings(self.folder)
        _require(path, config, "transformer_task", "feature-extraction")
        _require(path, config, "module_output_name", "token_embeddings")
        if (modality := config.fields("modality_config", default=None)) is not None:
            text = modality.fields("text")
            _require(path, text, "method", "forward")
            _require(path, text, "method_output_name", "last_hidden_state")

    def _read_pooling(self, folder: Path) -> None:
        path = folder / "config.json"
        config = read_json(path)
        if not config.flag("include_prompt", default=True):
            raise SpecError(f"{path}: include_prompt: false (pooling without the prompt) is not supported")
        modes = config.get("pooling_mode") or [m for key, m in _LEGACY_POOLING.items() if config.get(key)]
        modes = modes if isinstance(modes, list) else [modes]
        if len(modes) != 1 or modes[0] not in POOLINGS:
            raise SpecError(f"{path}: pooling_mode: {modes} is not supported; one of {', '.join(POOLINGS)} is")
        width = config.get("embedding_dimension", config.get("word_embedding_dimension", self.hidden_size))
        if width != self.hidden_size:
            raise SpecError(f"{path}: embedding_dimension: {width}, but config.json has hidden_size {self.hidden_size}")
        self.pooling = modes[0]

    def _read_dense(self, folder: Path) -> None:
        path = folder / "config.json"
        config = read_json(path)
        name = config.text(key := "activation_function", default="torch.nn.modules.activation.Tanh")
        activation = torch_activation(path, key, name)
        _require(path, config, "use_residual", False)
        _require(path, config, "module_input_name", "sentence_embedding")
        _require(path, config, "module_output_name", "sentence_embedding")
        width = self.dense[-1].out_features if self.dense else self.hidden_size
        if config.whole("in_features") != width:
            raise SpecError(f"{path}: in_features: {config['in_features']}, but the vectors before it have {width}")
        weights = next((file for name in _WEIGHTS if (file := folder / name).is_file()), None)
        if weights is None:
            raise SpecError(f"{folder}: {' or '.join(_WEIGHTS)} is missing: the layer's weights")
        self.dense.append(
            DenseSpec(
                weights=weights.relative_to(self.folder).as_posix(),
                in_features=width,
                out_features=config.whole("out_features", minimum=1, maximum=MAX_WIDTH),
                bias=config.flag("bias", default=True),
                activation=activation,
            )
        )

    def _read_normalize(self, folder: Path) -> None:
        path = folder / "config.json"
        config = read_json(path, missing={})
        _require(path, config, "module_input_name", "sentence_embedding")
        _require(path, config, "module_output_name", "sentence_embedding")
        self.normalize = True


def transformer_settings(folder: Path) -> tuple[Path, Fields]:
    """The file that holds ``max_seq_length`` and the like, and its content; empty where there is none.

    Raises:
        SpecError: it changes vectors in a way that nimbed does not follow; names file and key.
    """
    paths = [folder / f"sentence_{name}_config.json" for name in _SETTINGS]
    path = next((p for p in paths if p.is_file()), paths[0])
    content = read_json(path, missing={})
    for key in _HANDED_ON:
        if (value := _changing(content.get(key))) not in (None, {}):
            raise SpecError(
                f"{path}: {key}: {shown(value)} is not applied by nimbed, and without it the vectors would be others; "
                "say it in the tokenizer's and the network's own files (save_pretrained), and remove it here"
            )
    return path, content


def _changing(value: object) -> object:
    """What is left of it without the words that change no vector."""
    if not isinstance(value, dict):
        return value
    left = {word: _changing(one) for word, one in value.items() if word not in _HARMLESS}
    return {word: one for word, one in left.items() if one not in (None, {})}


def module_names(folder: Path) -> list[str]:
    """The last parts of the types in ``modules.json``; empty where there is no such file."""
    modules = read_json(folder / "modules.json", missing=[], kind=list)
    return [str(m.get("type", "")).rpartition(".")[2] for m in modules if isinstance(m, dict)]


def module_folder(folder: Path, name: str) -> Path | None:
    """That of the first module whose type ends so; None where ``modules.json`` has none.

    Raises:
        SpecError: it lies outside the model folder.
    """
    path = folder / "modules.json"
    modules = read_json(path, missing=[], kind=list)
    listed = (m for m in modules if isinstance(m, dict) and str(m.get("type", "")).endswith(f".{name}"))
    return next((_folder_of(folder, module, path) for module in listed), None)


def _folder_of(model: Path, module: dict[str, Any], path: Path) -> Path:
    try:
        folder = path_within(model, module.get("path") or "")
    except ValueError as err:
        raise SpecError(f"{path}: path: {err}") from err
    if not folder.resolve().is_relative_to(model.resolve()):
        raise SpecError(f"{path}: path: {module['path']!r} leads out of the model folder")
    return folder


def torch_activation(path: Path, key: str, name: str) -> Activation:
    """The name that nimbed has for a class of ``torch.nn``.

    Raises:
        SpecError: it is none that nimbed knows; names file and key.
    """
    activation = _ACTIVATIONS.get(name.rpartition(".")[2]) if name.startswith("torch.nn.") else None
    if activation is None:
        raise SpecError(f"{path}: {key}: {name!r} is not one of {', '.join(_ACTIVATIONS)} of torch.nn")
    return activation


def _require(path: Path, config: Mapping[str, Any], key: str, known: object) -> None:
    value = config.get(key)
    if value is not None and value != known:
        raise SpecError(f"{path}: {key}: {value!r} is not supported; {known!r} is")
