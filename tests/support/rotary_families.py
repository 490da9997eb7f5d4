"""Families with rotary or ALiBi positions that came with code of their own, in both names where both are published."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tests.support.decoder_families import DECODERS
from tests.support.network_families import FIRST, LARGE, LINEAR, Family, bert_names
from tests.support.scoring_families import SCORING

if TYPE_CHECKING:
    from collections.abc import Mapping


def _theta(key: str, *, types: bool = True) -> Any:
    """Rotary positions of one base in all layers."""

    def positions(config: Mapping[str, Any]) -> dict[str, Any]:
        found = config[key] if isinstance(config[key], (int, float)) else config[key]["rope_theta"]
        layers = config.get("num_hidden_layers") or config["n_layer"]
        scaling = config.get("rope_scaling") or {}
        ntk = scaling["factor"] if scaling.get("type") == "ntk" else 1.0
        return {"thetas": (float(found),) * layers, "ntk": ntk, "types": config["type_vocab_size"] if types else 0}

    return positions


def _ntk(factor: float, head_dim: int) -> dict[str, Any]:
    """What transformers calls linear and Alibaba ntk: a larger base, and all frequencies divided alike."""
    return {"rope_type": "linear", "rope_theta": 20_000.0 * factor, "factor": factor ** (2 / head_dim)}


_SPLIT = "layers.{n}."
_SPLIT_NAMES = {  # of transformers' classes for families that came with fused ones
    "embeddings.word_embeddings": "word",
    "embeddings.token_type_embeddings": "type",
    "embeddings.LayerNorm": "embedding_norm",
    **{f"{_SPLIT}self_attn.{part[0]}_proj": part for part in ("query", "key", "value")},
    f"{_SPLIT}self_attn.o_proj": "output",
    f"{_SPLIT}post_attention_layernorm": "attention_norm",
    f"{_SPLIT}post_mlp_layernorm": "output_norm",
}
_GATED_NAMES = {f"{_SPLIT}mlp.{part}_proj": part for part in ("gate", "up", "down")}
_FLASH = "encoder.layers.{n}."
_FLASH_NAMES = {"emb_ln": "embedding_norm", f"{_FLASH}norm1": "attention_norm", f"{_FLASH}norm2": "output_norm"}

_NOMIC = Family(
    config={
        "architectures": ["NomicBertModel"],
        "model_type": "nomic_bert",
        "hidden_act": "silu",
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": 2048,
        "rope_parameters": {"rope_theta": 1000.0, "rope_type": "default"},
        "type_vocab_size": 2,
        "pad_token_id": 1,
    },
    naming={**_SPLIT_NAMES, **_GATED_NAMES},
    traits={"epsilon": 1e-12, "activation": "silu", "gated": True, "unbiased": LINEAR},
    positions=_theta("rope_parameters"),
    tiny={"max_position_embeddings": 64},
)
_NOMIC_REMOTE = replace(
    _NOMIC,
    config={
        "activation_function": "swiglu",
        "architectures": ["NomicBertModel"],
        "attn_pdrop": 0.0,
        "auto_map": {
            "AutoConfig": "nomic-ai/nomic-bert-2048--configuration_hf_nomic_bert.NomicBertConfig",
            "AutoModel": "nomic-ai/nomic-bert-2048--modeling_hf_nomic_bert.NomicBertModel",
        },
        "causal": False,
        "layer_norm_epsilon": 1e-12,
        "mlp_fc1_bias": False,
        "mlp_fc2_bias": False,
        "model_type": "nomic_bert",
        "n_positions": 8192,
        "pad_vocab_size_multiple": 64,
        "parallel_block": False,
        "parallel_block_tied_norm": False,
        "prenorm": False,
        "qkv_proj_bias": False,
        "rotary_emb_base": 1000,
        "rotary_emb_fraction": 1.0,
        "rotary_emb_interleaved": False,
        "rotary_emb_scale_base": None,
        "rotary_scaling_factor": None,
        "scale_attn_by_inverse_layer_idx": False,
        "scale_attn_weights": True,
        "type_vocab_size": 2,
        "use_rms_norm": False,
    },
    naming={
        **_FLASH_NAMES,
        "embeddings.word_embeddings": "word",
        "embeddings.token_type_embeddings": "type",
        f"{_FLASH}attn.Wqkv": "query+key+value",
        f"{_FLASH}attn.out_proj": "output",
        f"{_FLASH}mlp.fc11": "up",
        f"{_FLASH}mlp.fc12": "gate",
        f"{_FLASH}mlp.fc2": "down",
    },
    positions=_theta("rotary_emb_base"),
    keys={"width": "n_embd", "layers": "n_layer", "heads": "n_head", "inner": "n_inner", "vocabulary": "vocab_size"},
    tiny={"n_positions": 64},
    transformers=None,
)
_GTE = Family(
    config={
        "architectures": ["GteModel"],
        "model_type": "gte",
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": 8192,
        "rope_parameters": _ntk(8.0, head_dim=64),
        "type_vocab_size": 1,
        "pad_token_id": 1,
    },
    naming={**_SPLIT_NAMES, **_GATED_NAMES},
    traits={"epsilon": 1e-12, "gated": True, "unbiased": frozenset({"gate", "up"})},
    positions=lambda config: {
        "thetas": (20_000.0,) * config["num_hidden_layers"],
        "ntk": 8.0,
        "types": config["type_vocab_size"],
    },
    tiny={"max_position_embeddings": 64, "rope_parameters": _ntk(8.0, head_dim=16)},
    pooling="cls",
    tokenizer="counted unigram",
    frame=("<s>", "</s>"),
    transformers="5.24",
)
_GTE_NEW = replace(
    _GTE,
    config={
        **{key: value for key, value in _GTE.config.items() if key != "rope_parameters"},
        "architectures": ["NewModel", "NewForTokenClassification"],
        "auto_map": {
            "AutoConfig": "Alibaba-NLP/new-impl--configuration.NewConfig",
            "AutoModel": "Alibaba-NLP/new-impl--modeling.NewModel",
        },
        "layer_norm_type": "layer_norm",
        "logn_attention_clip1": False,
        "logn_attention_scale": False,
        "model_type": "new",
        "pack_qkv": True,
        "rope_theta": 20000,
        "rope_scaling": {"factor": 8.0, "type": "ntk"},
        "position_embedding_type": "rope",
        "unpad_inputs": False,
        "use_memory_efficient_attention": False,
    },
    naming={
        "embeddings.word_embeddings": "word",
        "embeddings.token_type_embeddings": "type",
        "embeddings.LayerNorm": "embedding_norm",
        "encoder.layer.{n}.attention.qkv_proj": "query+key+value",
        "encoder.layer.{n}.attention.o_proj": "output",
        "encoder.layer.{n}.attn_ln": "attention_norm",
        "encoder.layer.{n}.mlp.up_gate_proj": "up+gate",
        "encoder.layer.{n}.mlp.down_proj": "down",
        "encoder.layer.{n}.mlp_ln": "output_norm",
    },
    positions=_theta("rope_theta"),
    tiny={"max_position_embeddings": 64},
    prefix="new.",
    transformers=None,
)
_JINA_V2 = Family(
    config={
        **FIRST["bert"].config,
        "architectures": ["JinaBertForMaskedLM"],
        "auto_map": {
            "AutoConfig": "jinaai/jina-bert-implementation--configuration_bert.JinaBertConfig",
            "AutoModel": "jinaai/jina-bert-implementation--modeling_bert.JinaBertModel",
        },
        "emb_pooler": "mean",
        "feed_forward_type": "geglu",
        "max_position_embeddings": 8192,
        "position_embedding_type": "alibi",
    },
    naming={
        **bert_names("encoder.layer.{n}.", without=("up", "down", "output_norm")),
        "encoder.layer.{n}.mlp.gated_layers": "gate+up",
        "encoder.layer.{n}.mlp.wo": "down",
        "encoder.layer.{n}.mlp.layernorm": "output_norm",
    },
    traits={"epsilon": 1e-12, "gated": True, "distances": "alibi", "unbiased": frozenset({"gate", "up"})},
    positions=lambda config: {"types": config["type_vocab_size"]},
    tiny={"max_position_embeddings": 64},
    unused=("pooler.dense",),
    transformers=None,
)
TASKS = ("retrieval.query", "retrieval.passage", "separation", "classification", "text-matching")
_JINA_V3 = Family(
    config={
        **FIRST["xlm-roberta"].config,
        "architectures": ["JinaEmbeddingsV3Model"],
        "model_type": "jina_embeddings_v3",
        "max_position_embeddings": 8194,
        "rope_parameters": {"rope_theta": 20000.0, "rope_type": "default"},
    },
    naming={**_SPLIT_NAMES, f"{_SPLIT}mlp.fc1": "up", f"{_SPLIT}mlp.fc2": "down"},
    traits={"epsilon": 1e-5},
    real=LARGE,
    positions=_theta("rope_parameters"),
    tiny={"max_position_embeddings": 66},
    unused=("pooler.dense",),
    tokenizer="counted unigram",
    frame=("<s>", "</s>"),
)
_JINA_V3_REMOTE = replace(
    _JINA_V3,
    config={
        **FIRST["xlm-roberta"].config,
        "auto_map": {
            "AutoConfig": "jinaai/xlm-roberta-flash-implementation--configuration_xlm_roberta.XLMRobertaFlashConfig",
            "AutoModel": "jinaai/xlm-roberta-flash-implementation--modeling_lora.XLMRobertaLoRA",
        },
        "emb_pooler": None,
        "load_trained_adapters": True,
        "lora_adaptations": list(TASKS),
        "lora_alpha": 1,
        "lora_dropout_p": 0.0,
        "lora_main_params_trainable": False,
        "lora_rank": 4,
        "matryoshka_dimensions": [32, 64, 128, 256, 512, 768, 1024],
        "max_position_embeddings": 8194,
        "position_embedding_type": "rotary",
        "rotary_emb_base": 20000.0,
        "task_instructions": {
            "retrieval.query": "Represent the query for retrieving evidence documents: ",
            "retrieval.passage": "Represent the document for retrieval: ",
            "separation": "",
            "classification": "",
            "text-matching": "",
        },
        "truncate_dim": None,
        "use_flash_attn": True,
        "use_reg_tokens": False,
    },
    naming={
        **_FLASH_NAMES,
        "embeddings.word_embeddings": "word",
        "embeddings.token_type_embeddings": "type",
        f"{_FLASH}mixer.Wqkv": "query+key+value",
        f"{_FLASH}mixer.out_proj": "output",
        f"{_FLASH}mlp.fc1": "up",
        f"{_FLASH}mlp.fc2": "down",
    },
    positions=_theta("rotary_emb_base"),
    prefix="roberta.",
    transformers=None,
    adapters=TASKS,
)
FAMILIES: dict[str, Family] = {
    **FIRST,
    "modernbert-cls": replace(FIRST["modernbert"], pooling="cls"),
    "nomic-bert": _NOMIC,
    "nomic-bert-remote": _NOMIC_REMOTE,
    "gte": _GTE,
    "gte-new": _GTE_NEW,
    "jina-bert-v2": _JINA_V2,
    "jina-v3": _JINA_V3,
    "jina-v3-remote": _JINA_V3_REMOTE,
    **DECODERS,
    **SCORING,
}
