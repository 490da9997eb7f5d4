"""BERT and its kin: RoBERTa, XLM-R, CamemBERT, ELECTRA, DistilBERT and MPNet (Devlin et al. 2019 and later)."""

from __future__ import annotations

from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING

from nimbed._model_folder.families import padding_of
from nimbed._model_folder.networks.config import expect, function_of, tokens_of
from nimbed._model_folder.networks.description import AttentionKind, Network
from nimbed._model_folder.networks.family import LONGEST, TABLES, Family, Names, encoder, whole
from nimbed._model_folder.networks.heads import classifier, two_layers
from nimbed._model_folder.networks.post_norm import post_norm, sizes_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from nimbed._files.json import Fields
    from nimbed._model_folder.networks.description import Function
    from nimbed._model_folder.networks.family import Sources
    from nimbed._types import ModelSpec

PARTS = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "output": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "up": "intermediate.dense",
    "down": "output.dense",
    "output_norm": "output.LayerNorm",
}
_BERT = Names(tables=TABLES, layer="encoder.layer.{}.", parts=PARTS)
_MPNET = Names(
    tables=TABLES,
    layer="encoder.layer.{}.",
    parts={
        **PARTS,
        "query": "attention.attn.q",
        "key": "attention.attn.k",
        "value": "attention.attn.v",
        "output": "attention.attn.o",
        "attention_norm": "attention.LayerNorm",
    },
)
_DISTILBERT = Names(
    tables=TABLES,
    layer="transformer.layer.{}.",
    parts={
        "query": "attention.q_lin",
        "key": "attention.k_lin",
        "value": "attention.v_lin",
        "output": "attention.out_lin",
        "attention_norm": "sa_layer_norm",
        "up": "ffn.lin1",
        "down": "ffn.lin2",
        "output_norm": "output_layer_norm",
    },
)
_DISTILBERT_KEYS = {"hidden": "dim", "heads": "n_heads", "layers": "n_layers", "intermediate": "hidden_dim"}
# What transformers takes where config.json does not say it.
EPSILON, TYPES, _VOCABULARY = 1e-12, 2, 30522
# Into as many MPNet's network sorts distances, whatever its config says.
_BUCKETS = 32
_VOCABULARIES = {"mpnet": 30527, "roberta": 50265}


def _described(
    config: Fields, spec: ModelSpec, *, name: str, head: Function, keys: Mapping[str, str] = MappingProxyType({})
) -> Network:
    """Tables of positions and segments, full attention; a classifier with the activation ``head``."""
    sizes, padding = sizes_of(config, keys), padding_of(config)
    positions = tokens_of(config, *LONGEST)
    if padding is not None and padding >= positions - 1:
        raise config.wrong("pad_token_id", f"below {positions - 1}: texts begin behind it, of {positions} positions")
    epsilon = EPSILON if keys else config.number("layer_norm_eps", default=EPSILON, minimum=0)
    if name == "mpnet":
        expect(config, "relative_attention_num_buckets", _BUCKETS)
    attention = AttentionKind(distances="buckets" if name == "mpnet" else None)
    return Network(
        **post_norm(sizes, epsilon, attention),
        family=name,
        activation=function_of(config, "activation" if keys else "hidden_act"),
        vocabulary=config.whole("vocab_size", default=_VOCABULARIES.get(name, _VOCABULARY), minimum=1),
        positions=positions,
        types=None if name in {"distilbert", "mpnet"} else config.whole("type_vocab_size", default=TYPES) or None,
        padding=-1 if padding is None else padding,
        max_length=positions if padding is None else positions - padding - 1,
        pooling=spec.pooling,
        head=classifier(config, spec, sizes.hidden, head),
    )


def _electra(config: Fields, spec: ModelSpec) -> Network:
    """ELECTRA's (Clark et al. 2020)."""
    network = _described(config, spec, name="electra", head="gelu")
    if config.whole("embedding_size", default=128) != network.hidden:
        raise config.wrong(
            "embedding_size", f"hidden_size ({network.hidden}): the native engine projects no embeddings"
        )
    return network


def _located(
    network: Network, _: Fields, __: Collection[str], *, names: Names = _BERT, head: tuple[str, str] | None = None
) -> Sources:
    found = encoder(network, names)
    if network.attention[0].distances == "buckets":
        found["distances"] = whole("encoder.relative_attention_bias.weight", _BUCKETS, network.heads)
    return {**found, **two_layers(network, *(head or ("classifier.dense", "classifier.out_proj")))}


BERT = Family(
    name="bert",
    types=("bert",),
    describe=partial(_described, name="bert", head="tanh"),
    locate=partial(_located, head=("pooler.dense", "classifier")),
)
ROBERTA = Family(
    name="roberta",
    types=("camembert", "roberta", "xlm-roberta"),
    describe=partial(_described, name="roberta", head="tanh"),
    locate=_located,
)
ELECTRA = Family(name="electra", types=("electra",), describe=_electra, locate=_located)
MPNET = Family(
    name="mpnet",
    types=("mpnet",),
    describe=partial(_described, name="mpnet", head="tanh"),
    locate=partial(_located, names=_MPNET),
)
DISTILBERT = Family(
    name="distilbert",
    types=("distilbert",),
    describe=partial(_described, name="distilbert", head="relu", keys=_DISTILBERT_KEYS),
    locate=partial(_located, names=_DISTILBERT, head=("pre_classifier", "classifier")),
)
