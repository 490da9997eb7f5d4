"""Seeded models of two layers in the architectures that people use, each with a tokenizer of its own kind."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import tokenizers
from tests.conftest import write_modules
from tests.support.counted_vocabularies import counted_unigram, counted_wordpiece
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

VOCABULARY = 1200
_WIDE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    # 1 / sqrt(64): as in trained models, attention and position make a large part of a vector.
    "initializer_range": 0.125,
}
_QWEN_QUERY = "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:"


@dataclass(frozen=True, kw_only=True)
class TinyModel:
    """What a folder is made of.

    Attributes:
        architecture: prefix of transformers' classes.
        config: of the network.
        tokenizer: "wordpiece", "bpe" or "unigram"; the first and the last also "counted".
        frame: special tokens before and after a text.
        pooling: as the folder names it.
        normalize: whether the folder lists the module.
        prompts: in ``config_sentence_transformers.json``; None writes no such file.
        tokenizer_config: content of the file.
        max_length: what must be read from the folder.
        vocabulary: tokens at most.
    """

    architecture: str
    config: Mapping[str, Any]
    tokenizer: str
    frame: tuple[Sequence[str], Sequence[str]]
    pooling: str
    normalize: bool = True
    prompts: Mapping[str, str] | None = None
    tokenizer_config: Mapping[str, Any] = field(default_factory=dict)
    max_length: int = 64
    vocabulary: int = VOCABULARY


BERT = (["[CLS]"], ["[SEP]"])
ROBERTA = (["<s>"], ["</s>"])
_OFFSET = {**_WIDE, "max_position_embeddings": 66, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}

MODELS = {
    "bert": TinyModel(
        architecture="Bert",
        config={**_WIDE, "max_position_embeddings": 64, "pad_token_id": 0},
        tokenizer="wordpiece",
        frame=BERT,
        pooling="mean",
    ),
    "roberta": TinyModel(
        architecture="Roberta",
        config={**_OFFSET, "type_vocab_size": 1},
        tokenizer="bpe",
        frame=ROBERTA,
        pooling="mean",
        normalize=False,
    ),
    "bge-m3": TinyModel(
        architecture="XLMRoberta",
        config={**_OFFSET, "type_vocab_size": 1},
        tokenizer="unigram",
        frame=ROBERTA,
        pooling="cls",
        tokenizer_config={"model_max_length": 8192},
    ),
    "multilingual-e5-small": TinyModel(
        architecture="XLMRoberta",
        config={**_OFFSET, "type_vocab_size": 1},
        tokenizer="unigram",
        frame=ROBERTA,
        pooling="mean",
        tokenizer_config={"model_max_length": 48},
        max_length=48,
    ),
    "all-mpnet-base-v2": TinyModel(
        architecture="MPNet",
        config=_OFFSET,
        tokenizer="wordpiece",
        frame=ROBERTA,
        pooling="mean",
    ),
    "distilbert": TinyModel(
        architecture="DistilBert",
        config={
            "vocab_size": VOCABULARY,
            "dim": 64,
            "n_layers": 2,
            "n_heads": 4,
            "hidden_dim": 128,
            "max_position_embeddings": 64,
            "initializer_range": 0.125,
        },
        tokenizer="wordpiece",
        frame=BERT,
        pooling="mean",
    ),
    "modernbert": TinyModel(
        architecture="ModernBert",
        config={
            **_WIDE,
            "num_hidden_layers": 3,
            "max_position_embeddings": 64,
            "global_attn_every_n_layers": 3,
            "local_attention": 16,
            "initializer_cutoff_factor": 3.0,
            "pad_token_id": 1,
            "bos_token_id": 0,
            "cls_token_id": 0,
            "eos_token_id": 2,
            "sep_token_id": 2,
        },
        tokenizer="bpe",
        frame=BERT,
        pooling="cls",
    ),
    "Qwen3-Embedding-0.6B": TinyModel(
        architecture="Qwen3",
        config={
            **_WIDE,
            "num_key_value_heads": 2,
            "head_dim": 32,
            "max_position_embeddings": 64,
            "bos_token_id": 2,
            "eos_token_id": 2,
        },
        tokenizer="bpe",
        frame=([], ["<|endoftext|>"]),
        pooling="lasttoken",
        prompts={"query": _QWEN_QUERY, "document": ""},
        tokenizer_config={"model_max_length": 131072, "padding_side": "left"},
    ),
}


def write_model(folder: Path, model: TinyModel, texts: Sequence[str], *, seed: int = 0) -> Path:
    """A sentence-transformers folder with safetensors and ``tokenizer.json``."""
    import torch
    import transformers

    torch.manual_seed(seed)
    config = getattr(transformers, f"{model.architecture}Config")(**model.config)
    network = getattr(transformers, f"{model.architecture}Model")(config).eval()
    with torch.no_grad():  # biases and norms are not what they were before the training
        for name, weights in network.named_parameters():
            if weights.ndim == 1:
                weights.add_(0.1 * torch.randn_like(weights))
            assert weights.isfinite().all(), name
    network.save_pretrained(folder)
    write_tokenizer(folder, model, texts)
    write_modules(folder, pooling=model.pooling, normalize=model.normalize)
    pooling = {"pooling_mode": model.pooling, "embedding_dimension": 64}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    if model.prompts is not None:
        settings = {"prompts": model.prompts, "default_prompt_name": None, "similarity_fn_name": "cosine"}
        (folder / "config_sentence_transformers.json").write_text(json.dumps(settings))
    return folder


def write_tokenizer(folder: Path, model: TinyModel, texts: Sequence[str]) -> None:
    """``tokenizer.json`` trained on these texts, and ``tokenizer_config.json``."""
    tokenizer = _KINDS[model.tokenizer](model, texts)
    before, after = model.frame
    names = [*before, *after]
    template = processors.TemplateProcessing(
        single=" ".join([*before, "$A", *after]),
        pair=_pair(model),
        special_tokens=[(name, tokenizer.token_to_id(name)) for name in names],
    )
    kept = [processors.ByteLevel(trim_offsets=False)] if model.tokenizer == "bpe" else []
    if names:
        tokenizer.post_processor = processors.Sequence([*kept, template])
    # As published: the file's own truncation and padding must not count.
    tokenizer.enable_truncation(16)
    tokenizer.enable_padding(direction="left", length=32)
    tokenizer.save(str(folder / "tokenizer.json"))
    content = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<pad>", **model.tokenizer_config}
    (folder / "tokenizer_config.json").write_text(json.dumps(content))


def _pair(model: TinyModel) -> str:
    """RoBERTa's two texts stand apart by two ends and are of one type, BERT's by one end and are of two."""
    before, after = model.frame
    if model.frame == ROBERTA:
        return " ".join([*before, "$A", *after, *after, "$B", *after])
    return " ".join([*before, "$A", *after, "$B:1", *(f"{end}:1" for end in after)])


def _special(model: TinyModel) -> list[str]:
    """Start, padding and end have the ids 0, 1 and 2."""
    before, after = model.frame
    start, end = (*before, "<s>")[0], (*after, "</s>")[0]
    return [start, "<pad>", end, "<unk>", "<mask>"]


def _wordpiece(model: TinyModel, texts: Sequence[str]) -> tokenizers.Tokenizer:
    made = tokenizers.Tokenizer(models.WordPiece(unk_token="<unk>"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.train_from_iterator(
        texts,
        trainers.WordPieceTrainer(vocab_size=model.vocabulary, special_tokens=_special(model), show_progress=False),
    )
    return made


def _bpe(model: TinyModel, texts: Sequence[str]) -> tokenizers.Tokenizer:
    made = tokenizers.Tokenizer(models.BPE())
    made.normalizer = normalizers.NFC()
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=model.vocabulary,
        special_tokens=_special(model),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(texts, trainer)
    return made


def _unigram(model: TinyModel, texts: Sequence[str]) -> tokenizers.Tokenizer:
    made = tokenizers.Tokenizer(models.Unigram())
    made.normalizer = normalizers.NFKC()
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=model.vocabulary, special_tokens=_special(model), unk_token="<unk>", show_progress=False
    )
    made.train_from_iterator(texts, trainer)
    return made


_KINDS: dict[str, Callable[[TinyModel, Sequence[str]], tokenizers.Tokenizer]] = {
    "bpe": _bpe,
    "unigram": _unigram,
    "wordpiece": _wordpiece,
    "counted unigram": lambda model, texts: counted_unigram(_special(model), texts, model.vocabulary),
    "counted wordpiece": lambda model, texts: counted_wordpiece(_special(model), texts, model.vocabulary),
}
