"""Tiny seeded cross-encoders of each architecture, as folders that transformers wrote."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

WORDS = [*"the cat sat on a mat where is it prices rose in may and fell again by june who what when how".split()]  # noqa: SIM905 (one line)
QUERY = "where is the cat"
DOCUMENTS = [
    "the cat sat on a mat",
    "prices rose in may",
    "",
    "it fell again by june and rose",
    "cat",
    "who what when how",
]
_SIZES = {
    "vocab_size": 40,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "num_labels": 1,
}
# transformers' name of the classes, the pair's template, and what its config says beside the sizes.
_BERT = ("[CLS] $A [SEP]", "[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1")
_ROBERTA = ("<s> $A </s>", "<s> $A </s> </s> $B </s>")
_OFFSET = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "max_position_embeddings": 66}
KINDS: dict[str, tuple[str, tuple[str, str], dict[str, Any]]] = {
    "bert": ("Bert", _BERT, {"max_position_embeddings": 64}),
    "camembert": ("Camembert", _ROBERTA, _OFFSET),
    "distilbert": ("DistilBert", _BERT, {"max_position_embeddings": 64}),
    "electra": ("Electra", _BERT, {"max_position_embeddings": 64, "embedding_size": 32}),
    "modernbert": ("ModernBert", _BERT, {"max_position_embeddings": 64, "pad_token_id": 3}),
    "mpnet": ("MPNet", _ROBERTA, _OFFSET),
    "roberta": ("Roberta", _ROBERTA, {**_OFFSET, "type_vocab_size": 1}),
    "xlm-roberta": ("XLMRoberta", _ROBERTA, {**_OFFSET, "type_vocab_size": 1}),
}


def write_tokenizer(folder: Path, templates: tuple[str, str] = _BERT) -> None:
    """Words of a small vocabulary, with a pair template as the architecture has it."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    special = ["<s>", "<pad>", "</s>", "[PAD]", "[CLS]", "[SEP]", "[UNK]"]
    vocabulary = {word: number for number, word in enumerate([*special, *WORDS])}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single=templates[0], pair=templates[1], special_tokens=[(name, vocabulary[name]) for name in special]
    )
    made.save(str(folder / "tokenizer.json"))


def write_cross_encoder(folder: Path, kind: str = "bert", **config: Any) -> Path:
    """A folder of this ``model_type``; ``config`` goes into its config.json."""
    import torch
    import transformers

    prefix, templates, own = KINDS[kind]
    torch.manual_seed(0)
    settings = getattr(transformers, f"{prefix}Config")(**_SIZES, **own)
    model = getattr(transformers, f"{prefix}ForSequenceClassification")(settings).eval()
    with torch.no_grad():  # as it is made, its weights are so small that all scores are one
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.5)
    model.save_pretrained(folder)
    write_tokenizer(folder, templates)
    said = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**said, **config}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 32}))
    return folder
