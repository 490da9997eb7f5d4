"""Folders as those of Qwen3-Reranker: a language model whose answer is the score, and the classifier made of it."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import tokenizers
from tests.support.described import change, save, tensors_of, written
from tests.support.networks import real_texts
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, trainers

from nimbed._model_folder.pair_template import QWEN3_INSTRUCTION, QWEN3_RERANKER

if TYPE_CHECKING:
    from pathlib import Path

# As the repository of Qwen/Qwen3-Reranker-0.6B has it; transformers takes the last line break away.
CHAT_TEMPLATE = (
    '{%- set instruction = messages | selectattr("role", "eq", "system") | map(attribute="content") | first'
    f' | default("{QWEN3_INSTRUCTION}") -%}}\n'
    '{%- set query_text = messages | selectattr("role", "eq", "query") | map(attribute="content") | first -%}\n'
    '{%- set document_text = messages | selectattr("role", "eq", "document") | map(attribute="content") | first -%}\n'
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct"
    ' provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
    "<Instruct>: {{ instruction }}\n<Query>: {{ query_text }}\n<Document>: {{ document_text }}<|im_end|>\n"
    "<|im_start|>assistant\n<think>\n\n</think>\n\n\n"
)
_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_ADDED = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"]
_TASKS = {"text-generation": "causal_logits", "sequence-classification": "scores"}
IDENTITY = "torch.nn.modules.linear.Identity"
POSITIONS = 256


@functools.cache
def qwen_tokenizer() -> str:
    """``tokenizer.json`` of Qwen's kind, in which "yes" and "no" are tokens."""
    made = tokenizers.Tokenizer(models.BPE())
    made.normalizer = normalizers.NFC()
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1200 - len(_ADDED), initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    made.train_from_iterator(
        [*real_texts(240), *[QWEN3_INSTRUCTION.join(QWEN3_RERANKER)] * 90, *["yes", "no"] * 900], trainer
    )
    made.add_tokens([AddedToken(name, special=name.startswith("<|"), normalized=False) for name in _ADDED])
    return made.to_str()


def write_reranker(
    folder: Path, *, classifier: bool = False, tied: bool = True, variant: str = "plain", **config: Any
) -> Path:
    """As it was published: no modules, and a chat template for pairs. ``config`` goes into ``config.json``."""
    written("qwen3", folder, variant=variant)
    for name in ("modules.json", "1_Pooling/config.json", "sentence_bert_config.json"):
        (folder / name).unlink(missing_ok=True)
    (folder / "tokenizer.json").write_text(qwen_tokenizer())
    settings = {"tokenizer_class": "Qwen2Tokenizer", "padding_side": "left", "pad_token": "<|endoftext|>"}
    settings |= {"eos_token": "<|im_end|>", "chat_template": CHAT_TEMPLATE, "add_bos_token": False}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    tensors = {f"model.{name}": one for name, one in tensors_of(folder).items()}
    words = tensors["model.embed_tokens.weight"]
    if classifier:
        yes, no = answers_of(folder)
        tensors["score.weight"] = (words[yes] - words[no])[None]
        config |= {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}
    elif not tied:
        tensors["lm_head.weight"] = np.random.default_rng(4).normal(size=words.shape).astype(np.float32)
    architecture = "Qwen3ForSequenceClassification" if classifier else "Qwen3ForCausalLM"
    return change(
        save(folder, tensors),
        architectures=[architecture],
        max_position_embeddings=POSITIONS,
        tie_word_embeddings=tied,
        pad_token_id=tokenizer_of(folder).token_to_id("<|endoftext|>"),
        **{"sentence_transformers": {"activation_fn": IDENTITY}, **config},
    )


def with_modules(folder: Path, *, answers: dict[str, Any] | None = None, **sentence: Any) -> Path:
    """As sentence-transformers 5.4 and later write it; ``sentence`` is the content of its own config."""
    kinds = ["sentence_transformers.base.modules.transformer.Transformer"]
    task = "sequence-classification" if answers is None else "text-generation"
    if answers is not None:
        kinds.append("sentence_transformers.cross_encoder.modules.logit_score.LogitScore")
        (folder / "1_LogitScore").mkdir(exist_ok=True)
        (folder / "1_LogitScore" / "config.json").write_text(json.dumps(answers))
    modules = [
        {"idx": at, "name": str(at), "path": f"{at}_LogitScore" if at else "", "type": kind}
        for at, kind in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    way = {"method": "forward", "method_output_name": "logits"}
    read = {"transformer_task": task, "module_output_name": _TASKS[task]}
    settings = {**read, "modality_config": {"text": way, "message": {**way, "format": "flat"}}}
    (folder / "sentence_bert_config.json").write_text(json.dumps(settings))
    (folder / "config_sentence_transformers.json").write_text(json.dumps({"model_type": "CrossEncoder", **sentence}))
    return folder


def tokenizer_of(folder: Path) -> tokenizers.Tokenizer:
    return tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))


def answers_of(folder: Path) -> tuple[int, int]:
    """The ids of "yes" and "no"."""
    made = tokenizer_of(folder)
    return made.token_to_id("yes"), made.token_to_id("no")
