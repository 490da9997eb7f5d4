"""A model folder as llama.cpp's file in Q8_0, run in the peers' environment: tensors and sizes, no tokenizer.

llama.cpp's own converter takes known tokenizers alone; here its `gguf` package names the tensors, and token ids come
from the folder's tokenizer, so that everyone embeds the same tokens.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import gguf
from gguf.quants import quantize
from safetensors.numpy import load_file

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import numpy as np

Q8_0 = gguf.GGMLQuantizationType.Q8_0
_ARCHITECTURES = {
    "bert": gguf.MODEL_ARCH.BERT,
    "modernbert": gguf.MODEL_ARCH.MODERN_BERT,
    "qwen3": gguf.MODEL_ARCH.QWEN3,
    "gemma3_text": gguf.MODEL_ARCH.GEMMA_EMBEDDING,
}
_POOLING = {"mean": gguf.PoolingType.MEAN, "cls": gguf.PoolingType.CLS, "lasttoken": gguf.PoolingType.LAST}
_NOT_RUN = ("pooler.", "embeddings.position_ids")
_EXACT = ("position_embd.", "token_types.")  # as the converter keeps them


def write(folder: Path, target: Path) -> None:
    """Written beside the target and renamed.

    Raises:
        KeyError: the network, its pooling or a tensor is none that is known here.
        ValueError: llama.cpp would compute something else.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    architecture = _ARCHITECTURES[config["model_type"]]
    part = target.with_suffix(".part")
    writer = gguf.GGUFWriter(part, gguf.MODEL_ARCH_NAMES[architecture])
    _write_sizes(writer, config)
    _NETWORKS[config["model_type"]](writer, config)
    writer.add_pooling_type(_pooling(folder))
    writer.add_tokenizer_model("no_vocab")
    writer.add_vocab_size(config["vocab_size"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    names = gguf.get_tensor_name_map(architecture, config["num_hidden_layers"])
    for name, tensor in load_file(folder / "model.safetensors").items():
        if not name.startswith(_NOT_RUN):
            _write_tensor(writer, _name(names, name), tensor + _norm_offset(config, name))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    part.rename(target)


def _pooling(folder: Path) -> gguf.PoolingType:
    settings = json.loads((folder / "1_Pooling" / "config.json").read_text(encoding="utf-8"))
    older = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls", "pooling_mode_lasttoken": "lasttoken"}
    mode = settings.get("pooling_mode") or next(mode for key, mode in older.items() if settings.get(key))
    return _POOLING[mode]


def _write_sizes(writer: gguf.GGUFWriter, config: Mapping[str, Any]) -> None:
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config.get("num_key_value_heads", config["num_attention_heads"]))
    if "head_dim" in config:
        writer.add_key_length(config["head_dim"])
        writer.add_value_length(config["head_dim"])


def _bert(writer: gguf.GGUFWriter, config: Mapping[str, Any]) -> None:
    writer.add_causal_attention(False)
    writer.add_layer_norm_eps(config["layer_norm_eps"])
    writer.add_token_type_count(config["type_vocab_size"])


def _modernbert(writer: gguf.GGUFWriter, config: Mapping[str, Any]) -> None:
    writer.add_causal_attention(False)
    writer.add_layer_norm_eps(config["norm_eps"])
    writer.add_sliding_window(config["local_attention"])
    writer.add_sliding_window_pattern(config["global_attn_every_n_layers"])
    writer.add_rope_scaling_type(gguf.RopeScalingType.NONE)
    writer.add_rope_freq_base(config["global_rope_theta"])
    writer.add_rope_freq_base_swa(config["local_rope_theta"])


def _qwen3(writer: gguf.GGUFWriter, config: Mapping[str, Any]) -> None:
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])


def _gemma(writer: gguf.GGUFWriter, config: Mapping[str, Any]) -> None:
    if config["query_pre_attn_scalar"] != config["head_dim"]:
        raise ValueError("llama.cpp divides scores by the root of head_dim, and not by that of query_pre_attn_scalar")
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_sliding_window(config["sliding_window"])
    writer.add_sliding_window_pattern(config["sliding_window_pattern"])
    writer.add_rope_freq_base(config["rope_parameters"]["full_attention"]["rope_theta"])
    writer.add_rope_freq_base_swa(config["rope_parameters"]["sliding_attention"]["rope_theta"])


_NETWORKS: dict[str, Callable[[gguf.GGUFWriter, Mapping[str, Any]], None]] = {
    "bert": _bert,
    "modernbert": _modernbert,
    "qwen3": _qwen3,
    "gemma3_text": _gemma,
}


def _name(names: gguf.TensorNameMap, name: str) -> str:
    found = names.get_name(name, (".weight", ".bias")) or names.get_name(f"model.{name}", (".weight", ".bias"))
    if found is None:
        raise KeyError(f"llama.cpp has no name for the tensor {name}")
    return found


def _norm_offset(config: Mapping[str, Any], name: str) -> float:
    """Gemma's files hold what a norm multiplies by less one."""
    return float(config["model_type"].startswith("gemma") and name.endswith("norm.weight"))


def _write_tensor(writer: gguf.GGUFWriter, name: str, tensor: np.ndarray) -> None:
    if tensor.ndim < 2 or name.startswith(_EXACT):
        writer.add_tensor(name, tensor.astype("float32"))
    else:
        writer.add_tensor(name, quantize(tensor.astype("float32"), Q8_0), raw_dtype=Q8_0)
