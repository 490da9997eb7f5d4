"""Which networks the native engine runs: BERT and its kin, read from ``config.json``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nimbed._files.json import read_json
from nimbed._model_folder.families import padding_of
from nimbed._model_folder.weights import tensor_names
from nimbed.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from nimbed._types import ModelSpec

# The native engine's part of an artefact.
ENCODER_FILE = "encoder.safetensors"
ACTIVATIONS = {"gelu": 1, "relu": 2}
POOLINGS = {"cls": 0, "mean": 1, "lasttoken": 2, "max": 3}
# model_type -> the names of its settings, where they are not BERT's
_BERT: dict[str, str] = {}
_DISTIL = {
    "hidden_size": "dim",
    "num_attention_heads": "n_heads",
    "num_hidden_layers": "n_layers",
    "intermediate_size": "hidden_dim",
    "hidden_act": "activation",
}
ARCHITECTURES = {
    "bert": _BERT,
    "camembert": _BERT,
    "distilbert": _DISTIL,
    "mpnet": _BERT,
    "roberta": _BERT,
    "xlm-roberta": _BERT,
}
# The tables' names here -> the settings that say how many rows each has; transformers refuses another number.
_ROWS = {
    "words": "vocab_size",
    "positions": "max_position_embeddings",
    "types": "type_vocab_size",
    "relative": "relative_attention_num_buckets",
}
_MAX_WIDTH = 8192
# The table of words of BERT's kin and of ModernBERT.
_TABLES = ("embeddings.word_embeddings.weight", "embeddings.tok_embeddings.weight")


@dataclass(frozen=True, kw_only=True)
class EncoderShape:
    """An encoder's dimensions.

    Attributes:
        architecture: ``model_type``.
        hidden: width of a token's vector.
        heads: of attention.
        layers: of the encoder.
        intermediate: width between the two products of a feed-forward block.
        activation: between them.
        epsilon: LayerNorm's.
        padding: the token from whose id on positions are counted, and which is not counted itself; or -1.
        rows: of the tables, where the folder says it.
    """

    architecture: str
    hidden: int
    heads: int
    layers: int
    intermediate: int
    activation: str
    epsilon: float
    padding: int
    rows: Mapping[str, int] = field(default_factory=dict)

    @property
    def relative(self) -> bool:
        """Whether a score depends on the distance of its tokens (MPNet)."""
        return self.architecture == "mpnet"


def read_shape(folder: Path, spec: ModelSpec) -> EncoderShape:
    """The dimensions of a network that the native engine runs.

    Raises:
        SpecError: it does not run this one; the message says why.
    """
    path = folder / "config.json"
    config = read_json(path)
    names, padding = ARCHITECTURES.get(spec.architecture), padding_of(config)
    if names is None:
        raise SpecError(f"the native engine runs {', '.join(ARCHITECTURES)}, not {spec.architecture}")
    _check(config, spec)

    shape = EncoderShape(
        architecture=spec.architecture,
        hidden=_number(config, path, names, "hidden_size"),
        heads=_number(config, path, names, "num_attention_heads"),
        layers=_number(config, path, names, "num_hidden_layers"),
        intermediate=_number(config, path, names, "intermediate_size"),
        activation=str(config.get(names.get("hidden_act", "hidden_act"), "gelu")),
        epsilon=config.number("layer_norm_eps", default=1e-12),
        padding=-1 if padding is None else padding,
        rows={ours: rows for ours, theirs in _ROWS.items() if (rows := config.whole(theirs, default=None))},
    )
    if shape.epsilon < 0:
        raise config.wrong("layer_norm_eps", "a number from 0 on")
    if shape.activation not in ACTIVATIONS:
        raise SpecError(f"the native engine has {', '.join(ACTIVATIONS)}, not the activation {shape.activation}")
    if shape.hidden % shape.heads or max(shape.hidden, shape.intermediate) > _MAX_WIDTH:
        raise SpecError(f"the native engine has no kernels for {shape.heads} heads in a width of {shape.hidden}")
    return shape


def _number(config: Mapping[str, Any], path: Path, names: Mapping[str, str], name: str) -> int:
    value = config.get(names.get(name, name))
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise SpecError(f"{path}: {names.get(name, name)} is {value!r}, not a whole number above 0")
    return value


def _check(config: Mapping[str, Any], spec: ModelSpec) -> None:
    if spec.task != "embedding" or spec.dense:
        raise SpecError("the native engine runs encoders, not cross-encoders or dense layers behind the pooling")
    if spec.pooling not in POOLINGS:
        raise SpecError(f"the native engine has no {spec.pooling} pooling")
    if config.get("position_embedding_type", "absolute") != "absolute" or config.get("is_decoder", False):
        raise SpecError("the native engine runs encoders with absolute positions")


def check_one_encoder(network: Path) -> None:
    """Refuse weights of two encoders: engines would choose between them by rules of their own.

    Args:
        network: weights, or the ``.index.json`` of their parts; graphs are passed over.

    Raises:
        SpecError: there are two tables of words, or the file is damaged.
    """
    if network.suffix in {".onnx", ".xml"}:
        return
    if len(tables := sorted(name for name in tensor_names(network) if name.endswith(_TABLES))) > 1:
        raise SpecError(
            f"{network} holds two encoders: {tables[0]} and {tables[1]}; "
            "save the one that is meant with transformers (model.save_pretrained) in a folder of its own"
        )
