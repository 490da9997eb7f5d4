"""Folders as those of jina-embeddings-v5-text: a base of EuroBERT or Qwen3, and PEFT's adapters beside it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors.numpy
from tests.support.described import change, config_of, save, tensors_of, written

if TYPE_CHECKING:
    from pathlib import Path

TASKS = ("retrieval", "text-matching", "clustering", "classification")
BASES = {"nano": "eurobert", "small": "qwen3"}
RANK, ALPHA = 4, 6
# As PEFT 0.15 writes them.
SETTINGS: dict[str, Any] = {
    "alpha_pattern": {}, "auto_mapping": None, "base_model_name_or_path": "jinaai/jina-embeddings-v5-text-nano",
    "bias": "none", "corda_config": None, "eva_config": None, "exclude_modules": None, "fan_in_fan_out": False,
    "inference_mode": True, "init_lora_weights": "gaussian", "layer_replication": None, "layers_pattern": None,
    "layers_to_transform": None, "loftq_config": {}, "lora_alpha": ALPHA, "lora_bias": False, "lora_dropout": 0.1,
    "megatron_config": None, "megatron_core": "megatron.core", "modules_to_save": None, "peft_type": "LORA",
    "r": RANK, "rank_pattern": {}, "revision": None,
    "target_modules": ["gate_proj", "v_proj", "q_proj", "down_proj", "o_proj", "k_proj", "up_proj"],
    "task_type": "FEATURE_EXTRACTION", "trainable_token_indices": None, "use_dora": False, "use_rslora": False,
}  # fmt: skip


def write_jina_v5(folder: Path, size: str, *, variant: str = "plain") -> Path:
    """As it was published, without its code; each adapter changes each weight by a third of its size."""
    written(BASES[size], folder, variant=variant)
    for name in ("1_Pooling/config.json", "sentence_bert_config.json"):
        (folder / name).unlink(missing_ok=True)
    rope = config_of(folder)["rope_parameters"]["rope_theta"]
    code = {"AutoConfig": "configuration_jina_embeddings_v5.JinaEmbeddingsV5Config",
            "AutoModel": "modeling_jina_embeddings_v5.JinaEmbeddingsV5Model"}  # fmt: skip
    change(
        folder,
        "rope_parameters",
        architectures=["JinaEmbeddingsV5Model"],
        auto_map=code,
        model_type="jina_embeddings_v5",
        rope_theta=rope,
        task_names=list(TASKS),
        **({"is_decoder": False, "rope_scaling": None} if size == "nano" else {}),
    )
    modules = [{"idx": 0, "name": "transformer", "path": "", "type": "custom_st.Transformer"}]
    (folder / "modules.json").write_text(json.dumps([{**modules[0], "kwargs": ["task", "truncate_dim"]}]))
    prompts = {"prompts": {"query": "Query: ", "document": "Document: "}, "default_prompt_name": "document"}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    tensors = tensors_of(folder)
    for seed, task in enumerate(TASKS):
        write_adapter(folder, task, factors(tensors, seed))
    return folder


def factors(tensors: dict[str, np.ndarray], seed: int) -> dict[str, np.ndarray]:
    random, made = np.random.default_rng(seed), {}
    for name, weight in tensors.items():
        if not name.endswith("_proj.weight"):
            continue
        outputs, inputs = weight.shape
        base = f"base_model.model.{name.removesuffix('.weight')}"
        size = 0.3 * float(weight.std()) / (ALPHA / RANK * RANK**0.5)
        made[f"{base}.lora_A.weight"] = random.normal(size=(RANK, inputs)).astype(np.float32)
        made[f"{base}.lora_B.weight"] = (size * random.normal(size=(outputs, RANK))).astype(np.float32)
    return made


def write_adapter(folder: Path, task: str, tensors: dict[str, np.ndarray] | None = None, **settings: Any) -> Path:
    """An adapter, or another one's settings."""
    place = folder / "adapters" / task
    place.mkdir(parents=True, exist_ok=True)
    (place / "adapter_config.json").write_text(json.dumps({**SETTINGS, **settings}))
    if tensors is not None:
        safetensors.numpy.save_file(tensors, place / "adapter_model.safetensors", {"format": "pt"})
    return folder


def adapter_tensors(folder: Path, task: str) -> dict[str, np.ndarray]:
    return safetensors.numpy.load_file(folder / "adapters" / task / "adapter_model.safetensors")


def merged(folder: Path, target: Path, size: str, task: str, scale: float = ALPHA / RANK) -> Path:
    """A folder of transformers' class alone, with a task's adapter in its weights."""
    written(BASES[size], target)
    tensors, low = tensors_of(folder), adapter_tensors(folder, task)
    for name, weight in tensors.items():
        base = f"base_model.model.{name.removesuffix('.weight')}.lora_"
        if f"{base}A.weight" in low:
            a, b = (low[f"{base}{half}.weight"].astype(np.float64) for half in "AB")
            tensors[name] = (weight + scale * b @ a).astype(np.float32)
    (target / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode": "lasttoken"}))
    return save(target, tensors)
