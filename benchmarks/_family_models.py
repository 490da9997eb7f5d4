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
LAYERS = {"modernbert-base": 22, "nomic-bert": 12, "bert-base": 12, "cross-encoder": 6}
MAX_LENGTH = 512
_WEIGHTS = ("*.safetensors", "*.bin", "openvino", "onnx", "README.md")


def write(shape: str, layers: int, tokenizer_of: Path, target: Path) -> Path:
    """A model folder of that shape, with the tokenizer of a BERT; one that is there already is taken as it is."""
    if (target / "config.json").is_file():
        return target
    part = target.with_name(f"{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(tokenizer_of, part, ignore=shutil.ignore_patterns(*_WEIGHTS))
    torch.manual_seed(0)
    model = _NETWORKS[shape](layers).eval()
    model.save_pretrained(part)
    _write_settings(part, model.config)
    part.rename(target)
    return target


def _modernbert(layers: int) -> torch.nn.Module:
    tokens = {"pad_token_id": 0, "bos_token_id": 101, "cls_token_id": 101, "eos_token_id": 102, "sep_token_id": 102}
    return transformers.ModernBertModel(
        transformers.ModernBertConfig(vocab_size=30522, num_hidden_layers=layers, **tokens)
    )


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
}


def _write_settings(folder: Path, config: transformers.PretrainedConfig) -> None:
    """Pooling, lengths and the tokenizer's inputs; a cross-encoder has no modules."""
    inputs = ["input_ids", "attention_mask", *(["token_type_ids"] if config.model_type != "modernbert" else [])]
    _change(folder / "tokenizer_config.json", model_input_names=inputs, model_max_length=MAX_LENGTH)
    if type(config) is transformers.BertConfig and config.num_labels == 1:
        for name in ("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json"):
            (folder / name).unlink()
        shutil.rmtree(folder / "1_Pooling")
        return
    _change(folder / "sentence_bert_config.json", max_seq_length=MAX_LENGTH)
    _change(folder / "1_Pooling" / "config.json", word_embedding_dimension=config.hidden_size)


def _change(path: Path, **settings: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **settings}, indent=2) + "\n")
