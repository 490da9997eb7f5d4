"""Cross-encoders of one label."""

from __future__ import annotations

from dataclasses import replace

from tests.support.network_families import FIRST, Family
from tests.support.plain_encoder import Head

_BERT, _XLM_ROBERTA, _MPNET, _DISTILBERT, _MODERNBERT = FIRST.values()
_TANH, _RELU, _GELU = Head(activation="tanh"), Head(activation="relu"), Head(activation="gelu")
_MODERN_HEAD = Head(activation="gelu", dense_bias=False, norm=True)


def scoring(family: Family, architecture: str, head: Head, names: tuple[str, str], *, prefix: str) -> Family:
    """The family's cross-encoder of one label; ``names`` are those of the dense and of the last layer."""
    config = {
        **family.config,
        "sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"},
        "architectures": [architecture],
        "id2label": {"0": "LABEL_0"},
        "label2id": {"LABEL_0": 0},
    }
    return replace(
        family,
        config=config,
        naming={**family.naming, names[0]: "head.dense", "head.norm": "head.norm", names[1]: "head.out"},
        traits={**family.traits, "head": head},
        prefix=prefix,
        unused=(),
        pooling=family.config.get("classifier_pooling", "cls"),
    )


_ELECTRA = Family(
    config={**_BERT.config, "model_type": "electra", "embedding_size": 768},
    naming=_BERT.naming,
    traits=_BERT.traits,
    positions=_BERT.positions,
    tiny={"max_position_embeddings": 64, "embedding_size": 96},
)
SCORING = {
    "bert-cross": scoring(
        _BERT, "BertForSequenceClassification", _TANH, ("bert.pooler.dense", "classifier"), prefix="bert."
    ),
    "xlm-roberta-cross": scoring(
        _XLM_ROBERTA,
        "XLMRobertaForSequenceClassification",
        _TANH,
        ("classifier.dense", "classifier.out_proj"),
        prefix="roberta.",
    ),
    "mpnet-cross": scoring(
        _MPNET, "MPNetForSequenceClassification", _TANH, ("classifier.dense", "classifier.out_proj"), prefix="mpnet."
    ),
    "distilbert-cross": scoring(
        _DISTILBERT,
        "DistilBertForSequenceClassification",
        _RELU,
        ("pre_classifier", "classifier"),
        prefix="distilbert.",
    ),
    "electra-cross": scoring(
        _ELECTRA,
        "ElectraForSequenceClassification",
        _GELU,
        ("classifier.dense", "classifier.out_proj"),
        prefix="electra.",
    ),
    "modernbert-cross": scoring(
        _MODERNBERT, "ModernBertForSequenceClassification", _MODERN_HEAD, ("head.dense", "classifier"), prefix="model."
    ),
}
