"""Families of networks as the hub's folders hold them: config keys, tensor names, tokenizer, pooling.

Tensor names are those of published folders. ``naming`` maps a name in the file to the plain encoder's (see
`tests.support.plain_encoder.shapes`): several joined by ``+`` are stored as one, row by row; ``{n}`` is a layer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from packaging.version import Version
from tests.support.plain_encoder import Anatomy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_SIZES = {
    "width": "hidden_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "inner": "intermediate_size",
    "vocabulary": "vocab_size",
}
LINEAR = frozenset({"query", "key", "value", "output", "up", "gate", "down"})


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Of the real folders; tests shrink them."""

    width: int
    layers: int
    heads: int
    inner: int


BASE, LARGE = Sizes(width=768, layers=12, heads=12, inner=3072), Sizes(width=1024, layers=24, heads=16, inner=4096)
MINILM = Sizes(width=384, layers=6, heads=12, inner=1536)
MODERN = Sizes(width=768, layers=22, heads=12, inner=1152)


@dataclass(frozen=True, kw_only=True)
class Family:
    """What a folder of the family is made of.

    Attributes:
        config: ``config.json`` but for the sizes.
        naming: names in the file, those of the plain encoder.
        traits: of the plain encoder, whatever the config says.
        real: sizes of a published model.
        positions: of this config, the plain encoder's fields about positions.
        keys: where the config says the sizes.
        tiny: config keys that small folders change.
        prefix: before the names of the encoder (not of ``head``).
        unused: dense layers ``[width, width]`` that lie in the folders and that no vector needs.
        tokenizer: see `tests.support.tiny_models`.
        frame: special tokens around a text.
        transformers: the oldest release whose class opens the folder, or None.
        adapters: tasks, each with weights of its own on all linear layers and tables.
    """

    config: Mapping[str, Any]
    naming: Mapping[str, str]
    traits: Mapping[str, Any] = field(default_factory=dict)
    real: Sizes = BASE
    positions: Callable[[Mapping[str, Any]], dict[str, Any]] = lambda _: {}
    keys: Mapping[str, str] = field(default_factory=lambda: _SIZES)
    tiny: Mapping[str, Any] = field(default_factory=dict)
    prefix: str = ""
    unused: tuple[str, ...] = ()
    pooling: str = "mean"
    tokenizer: str = "counted wordpiece"
    frame: tuple[str, str] = ("[CLS]", "[SEP]")
    transformers: str | None = "5.5"
    adapters: tuple[str, ...] = ()

    @property
    def has_class(self) -> bool:
        """Whether the installed transformers opens the folder."""
        return self.transformers is not None and Version(version("transformers")) >= Version(self.transformers)

    @property
    def scores(self) -> bool:
        """Whether it is a cross-encoder."""
        return "head" in self.traits

    def anatomy(self, config: Mapping[str, Any]) -> Anatomy:
        sizes = {size: config[key] for size, key in self.keys.items()}
        return Anatomy(**sizes, **self.traits, **self.positions(config))


def _table(first: int = 0) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    return lambda config: {
        "positions": config["max_position_embeddings"],
        "first_position": first,
        "types": config.get("type_vocab_size", 0),
    }


def bert_names(layer: str, *, without: tuple[str, ...] = ()) -> dict[str, str]:
    """BERT's names, but for those of some parts."""
    names = {
        "embeddings.word_embeddings": "word",
        "embeddings.position_embeddings": "position",
        "embeddings.token_type_embeddings": "type",
        "embeddings.LayerNorm": "embedding_norm",
        **{f"{layer}attention.self.{part}": part for part in ("query", "key", "value")},
        f"{layer}attention.output.dense": "output",
        f"{layer}attention.output.LayerNorm": "attention_norm",
        f"{layer}intermediate.dense": "up",
        f"{layer}output.dense": "down",
        f"{layer}output.LayerNorm": "output_norm",
    }
    return {name: part for name, part in names.items() if part not in without}


_BERT = Family(
    config={
        "architectures": ["BertModel"],
        "model_type": "bert",
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": 512,
        "position_embedding_type": "absolute",
        "type_vocab_size": 2,
        "pad_token_id": 1,
    },
    naming=bert_names("encoder.layer.{n}."),
    traits={"epsilon": 1e-12},
    positions=_table(),
    tiny={"max_position_embeddings": 64},
    unused=("pooler.dense",),
)
_ROBERTA_CONFIG = {
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-5,
    "max_position_embeddings": 514,
    "type_vocab_size": 1,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
}
_XLM_ROBERTA = Family(
    config={"architectures": ["XLMRobertaModel"], "model_type": "xlm-roberta", **_ROBERTA_CONFIG},
    naming=_BERT.naming,
    traits={"epsilon": 1e-5},
    positions=_table(2),
    tiny={"max_position_embeddings": 66},
    unused=("pooler.dense",),
    pooling="cls",
    tokenizer="counted unigram",
    frame=("<s>", "</s>"),
)
_MPNET_LAYER = "encoder.layer.{n}."
_MPNET = Family(
    config={
        "architectures": ["MPNetModel"],
        "model_type": "mpnet",
        **{key: value for key, value in _ROBERTA_CONFIG.items() if key != "type_vocab_size"},
        "relative_attention_num_buckets": 32,
    },
    naming={
        **bert_names(_MPNET_LAYER, without=("query", "key", "value", "output", "attention_norm")),
        **{f"{_MPNET_LAYER}attention.attn.{part[0]}": part for part in ("query", "key", "value")},
        f"{_MPNET_LAYER}attention.attn.o": "output",
        f"{_MPNET_LAYER}attention.LayerNorm": "attention_norm",
        "encoder.relative_attention_bias": "distances",
    },
    traits={"epsilon": 1e-5, "distances": "buckets"},
    positions=_table(2),
    tiny={"max_position_embeddings": 66},
    unused=("pooler.dense",),
    frame=("<s>", "</s>"),
)
_DISTIL_LAYER = "transformer.layer.{n}."
_DISTILBERT = Family(
    config={
        "architectures": ["DistilBertModel"],
        "model_type": "distilbert",
        "activation": "gelu",
        "max_position_embeddings": 512,
        "sinusoidal_pos_embds": False,
        "pad_token_id": 1,
    },
    naming={
        "embeddings.word_embeddings": "word",
        "embeddings.position_embeddings": "position",
        "embeddings.LayerNorm": "embedding_norm",
        **{f"{_DISTIL_LAYER}attention.{part[0]}_lin": part for part in ("query", "key", "value")},
        f"{_DISTIL_LAYER}attention.out_lin": "output",
        f"{_DISTIL_LAYER}sa_layer_norm": "attention_norm",
        f"{_DISTIL_LAYER}ffn.lin1": "up",
        f"{_DISTIL_LAYER}ffn.lin2": "down",
        f"{_DISTIL_LAYER}output_layer_norm": "output_norm",
    },
    traits={"epsilon": 1e-12},
    real=Sizes(width=768, layers=6, heads=12, inner=3072),
    positions=_table(),
    keys={"width": "dim", "layers": "n_layers", "heads": "n_heads", "inner": "hidden_dim", "vocabulary": "vocab_size"},
    tiny={"max_position_embeddings": 64},
)


def _alternating(config: Mapping[str, Any]) -> dict[str, Any]:
    every, layers = config["global_attn_every_n_layers"], range(config["num_hidden_layers"])
    local, reach = config["local_rope_theta"], config["local_attention"] // 2
    return {
        "thetas": tuple(local if layer % every else config["global_rope_theta"] for layer in layers),
        "reaches": tuple(reach if layer % every else None for layer in layers),
    }


_MODERN_LAYER = "layers.{n}."
_MODERNBERT = Family(
    config={
        "architectures": ["ModernBertModel"],
        "model_type": "modernbert",
        "attention_bias": False,
        "classifier_pooling": "mean",
        "global_attn_every_n_layers": 3,
        "global_rope_theta": 160000.0,
        "hidden_activation": "gelu",
        "layer_norm_eps": 1e-5,
        "local_attention": 128,
        "local_rope_theta": 10000.0,
        "max_position_embeddings": 8192,
        "mlp_bias": False,
        "norm_bias": False,
        "norm_eps": 1e-5,
        "position_embedding_type": "absolute",
        "pad_token_id": 1,
        "bos_token_id": 0,
        "cls_token_id": 0,
        "eos_token_id": 2,
        "sep_token_id": 2,
    },
    naming={
        "embeddings.tok_embeddings": "word",
        "embeddings.norm": "embedding_norm",
        f"{_MODERN_LAYER}attn_norm": "attention_norm",
        f"{_MODERN_LAYER}attn.Wqkv": "query+key+value",
        f"{_MODERN_LAYER}attn.Wo": "output",
        f"{_MODERN_LAYER}mlp_norm": "output_norm",
        f"{_MODERN_LAYER}mlp.Wi": "gate+up",
        f"{_MODERN_LAYER}mlp.Wo": "down",
        "final_norm": "final_norm",
    },
    traits={"epsilon": 1e-5, "pre_norm": True, "gated": True, "unbiased": LINEAR | {"norm"}},
    real=MODERN,
    positions=_alternating,
    tiny={"local_attention": 16, "max_position_embeddings": 64},
    tokenizer="bpe",
)
FIRST = {
    "bert": _BERT,
    "xlm-roberta": _XLM_ROBERTA,
    "mpnet": _MPNET,
    "distilbert": _DISTILBERT,
    "modernbert": _MODERNBERT,
}
