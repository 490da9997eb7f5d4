"""Folders of seeded networks at published widths: as fast as the real ones, and good for nothing else."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import torch
import transformers

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# Real depths; `write` takes fewer.
LAYERS = {"modernbert-base": 22, "nomic-bert": 12, "bert-base": 12, "cross-encoder": 6, "bge-m3": 24, "qwen3-0.6b": 28}
MAX_LENGTH = 512
_WEIGHTS = ("*.safetensors", "*.bin", "openvino", "onnx", "README.md")


def write(
    shape: str, layers: int, tokenizer_of: Path, target: Path, *, longest: int = MAX_LENGTH, vocabulary: int = 30522
) -> Path:
    """A model folder of that shape, with the tokenizer of a BERT; one that is there already is taken as it is.

    In a larger vocabulary the words lie far apart, as those of a language do in that of a model of many languages.
    """
    if (target / "config.json").is_file():
        return target
    part = target.with_name(f"{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(tokenizer_of, part, ignore=shutil.ignore_patterns(*_WEIGHTS))
    torch.manual_seed(0)
    model = _NETWORKS[shape](layers).eval()
    if vocabulary > model.config.vocab_size:
        model.resize_token_embeddings(vocabulary, mean_resizing=False)
        _spread(part / "tokenizer.json", vocabulary)
    model.save_pretrained(part)
    _write_settings(part, model.config, longest)
    part.rename(target)
    return target


def _spread(path: Path, vocabulary: int) -> None:
    """Give the tokenizer so many words, the old ones in even distances behind those that keep their place."""
    tokenizer = json.loads(path.read_text(encoding="utf-8"))
    words, kept = tokenizer["model"]["vocab"], 1000  # special tokens are among them
    step = (vocabulary - kept) // (len(words) - kept)
    spread = {word: id_ if id_ < kept else kept + (id_ - kept) * step for word, id_ in words.items()}
    free = sorted(set(range(vocabulary)) - set(spread.values()))
    tokenizer["model"]["vocab"] = {**spread, **{f"[filler {id_}]": id_ for id_ in free}}
    path.write_text(json.dumps(tokenizer), encoding="utf-8")


def _modernbert(layers: int) -> torch.nn.Module:
    tokens = {"pad_token_id": 0, "bos_token_id": 101, "cls_token_id": 101, "eos_token_id": 102, "sep_token_id": 102}
    return transformers.ModernBertModel(
        transformers.ModernBertConfig(vocab_size=30522, num_hidden_layers=layers, **tokens)
    )


def _bge_m3(layers: int) -> torch.nn.Module:
    return transformers.XLMRobertaModel(
        transformers.XLMRobertaConfig(
            vocab_size=30522, hidden_size=1024, num_hidden_layers=layers, num_attention_heads=16,
            intermediate_size=4096, max_position_embeddings=8194, type_vocab_size=1, pad_token_id=0,
        ),
        add_pooling_layer=False,
    )  # fmt: skip


def _qwen3(layers: int) -> torch.nn.Module:
    return transformers.Qwen3Model(
        transformers.Qwen3Config(
            vocab_size=30522, hidden_size=1024, num_hidden_layers=layers, num_attention_heads=16, num_key_value_heads=8,
            head_dim=128, intermediate_size=3072, max_position_embeddings=40960, rope_theta=1_000_000,
        )
    )  # fmt: skip


def _nomic(layers: int) -> torch.nn.Module:
    return transformers.NomicBertModel(transformers.NomicBertConfig(num_hidden_layers=layers))


def _bert(layers: int) -> torch.nn.Module:
    return transformers.BertModel(transformers.BertConfig(num_hidden_layers=layers), add_pooling_layer=False)


def _cross_encoder(layers: int) -> torch.nn.Module:
    return transformers.BertForSequenceClassification(
        transformers.BertConfig(
            hidden_size=384, num_hidden_layers=layers, num_attention_heads=12, intermediate_size=1536, num_labels=1
        )
    )


_NETWORKS: dict[str, Callable[[int], torch.nn.Module]] = {
    "modernbert-base": _modernbert,
    "nomic-bert": _nomic,
    "bert-base": _bert,
    "cross-encoder": _cross_encoder,
    "bge-m3": _bge_m3,
    "qwen3-0.6b": _qwen3,
}
_POOLING = {"xlm-roberta": "cls_token", "qwen3": "lasttoken"}


def _write_settings(folder: Path, config: transformers.PretrainedConfig, longest: int) -> None:
    """Pooling, lengths and the tokenizer's inputs; a cross-encoder has no modules."""
    types = getattr(config, "type_vocab_size", 0) > 1
    inputs = ["input_ids", "attention_mask", *(["token_type_ids"] if types else [])]
    _change(folder / "tokenizer_config.json", model_input_names=inputs, model_max_length=longest)
    if type(config) is transformers.BertConfig and config.num_labels == 1:
        for name in ("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json"):
            (folder / name).unlink()
        shutil.rmtree(folder / "1_Pooling")
        return
    _change(folder / "sentence_bert_config.json", max_seq_length=longest)
    chosen = _POOLING.get(config.model_type, "mean_tokens")
    modes = {f"pooling_mode_{mode}": mode == chosen for mode in ("cls_token", "mean_tokens", "lasttoken")}
    _change(folder / "1_Pooling" / "config.json", word_embedding_dimension=config.hidden_size, **modes)


def _change(path: Path, **settings: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **settings}, indent=2) + "\n")
