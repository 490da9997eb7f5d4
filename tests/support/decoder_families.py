"""Families with an RMSNorm before each branch: EuroBERT, Qwen3, and Gemma 3 in both directions and in one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.support.network_families import BASE, LINEAR, Family, Sizes

if TYPE_CHECKING:
    from collections.abc import Mapping

_LAYER = "layers.{n}."
_NAMES = {
    "embed_tokens": "word",
    **{f"{_LAYER}self_attn.{part[0]}_proj": part for part in ("query", "key", "value", "output")},
    **{f"{_LAYER}mlp.{part}_proj": part for part in ("gate", "up", "down")},
    f"{_LAYER}input_layernorm": "attention_norm",
    f"{_LAYER}post_attention_layernorm": "output_norm",
    "norm": "final_norm",
}
_HEAD_NORMS = {f"{_LAYER}self_attn.{part[0]}_norm": f"{part}_norm" for part in ("query", "key")}
_TRAITS: dict[str, Any] = {"pre_norm": True, "rms": True, "gated": True, "unbiased": LINEAR | {"norm"}}


def _positions(config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "thetas": (float(config["rope_parameters"]["rope_theta"]),) * config["num_hidden_layers"],
        "key_heads": config["num_key_value_heads"],
        "head_width": config.get("head_dim") or 0,
    }


_EUROBERT = Family(
    config={
        "architectures": ["EuroBertModel"],
        "model_type": "eurobert",
        "attention_bias": False,
        "hidden_act": "silu",
        "max_position_embeddings": 8192,
        "mlp_bias": False,
        "num_key_value_heads": 12,
        "pad_token_id": 1,
        "rms_norm_eps": 1e-5,
        "rope_parameters": {"rope_theta": 250000.0, "rope_type": "default"},
    },
    naming=_NAMES,
    traits={**_TRAITS, "epsilon": 1e-5, "activation": "silu"},
    real=BASE,
    positions=_positions,
    tiny={"max_position_embeddings": 64, "num_key_value_heads": 2},
    tokenizer="bpe",
)
_QWEN3 = Family(
    config={
        "architectures": ["Qwen3Model"],
        "model_type": "qwen3",
        "attention_bias": False,
        "head_dim": 128,
        "hidden_act": "silu",
        "max_position_embeddings": 32768,
        "max_window_layers": 28,
        "num_key_value_heads": 8,
        "pad_token_id": 1,
        "rms_norm_eps": 1e-6,
        "rope_parameters": {"rope_theta": 1000000.0, "rope_type": "default"},
        "sliding_window": None,
        "use_sliding_window": False,
    },
    naming={**_NAMES, **_HEAD_NORMS},
    traits={**_TRAITS, "epsilon": 1e-6, "activation": "silu", "head_norms": True, "causal": True},
    real=Sizes(width=1024, layers=28, heads=16, inner=3072),
    positions=_positions,
    tiny={"head_dim": 32, "max_position_embeddings": 64, "num_key_value_heads": 3},
    pooling="lasttoken",
    tokenizer="bpe",
)


def _gemma_positions(config: Mapping[str, Any]) -> dict[str, Any]:
    both, window = config["use_bidirectional_attention"], config["sliding_window"]
    local = [kind == "sliding_attention" for kind in _layer_types(config)]
    rope = config["rope_parameters"]
    thetas = (rope["full_attention"]["rope_theta"], rope["sliding_attention"]["rope_theta"])
    return {
        "thetas": tuple(thetas[one] for one in local),
        "reaches": tuple((window // 2 if both else window - 1) if one else None for one in local),
        "causal": not both,
        "key_heads": config["num_key_value_heads"],
        "head_width": config["head_dim"],
        "score_scale": config["query_pre_attn_scalar"] ** -0.5,
        "word_scale": config["hidden_size"] ** 0.5,
    }


def _layer_types(config: Mapping[str, Any]) -> list[str]:
    every = config["sliding_window_pattern"]
    return [
        "full_attention" if (n + 1) % every == 0 else "sliding_attention" for n in range(config["num_hidden_layers"])
    ]


def _gemma(*, both: bool, real: Sizes, pooling: str) -> Family:
    return Family(
        config={
            "architectures": ["Gemma3TextModel"],
            "model_type": "gemma3_text",
            "attention_bias": False,
            "attn_logit_softcapping": None,
            "final_logit_softcapping": None,
            "head_dim": 256,
            "hidden_activation": "gelu_pytorch_tanh",
            "max_position_embeddings": 2048,
            "num_key_value_heads": 1,
            "pad_token_id": 1,
            "query_pre_attn_scalar": 256,
            "rms_norm_eps": 1e-6,
            "rope_parameters": {
                "full_attention": {"rope_theta": 1000000.0, "rope_type": "default"},
                "sliding_attention": {"rope_theta": 10000.0, "rope_type": "default"},
            },
            "sliding_window": 512,
            "sliding_window_pattern": 6,
            "use_bidirectional_attention": both,
        },
        naming={
            **_NAMES,
            **_HEAD_NORMS,
            f"{_LAYER}post_attention_layernorm": "output_branch_norm",
            f"{_LAYER}pre_feedforward_layernorm": "output_norm",
            f"{_LAYER}post_feedforward_layernorm": "down_branch_norm",
        },
        traits={
            **_TRAITS,
            "epsilon": 1e-6,
            "activation": "gelu_tanh",
            "head_norms": True,
            "branch_norms": True,
            "norm_offset": 1.0,
        },
        real=real,
        positions=_gemma_positions,
        tiny={
            "head_dim": 32,
            "max_position_embeddings": 64,
            "query_pre_attn_scalar": 24,
            "sliding_window": 16,
            "sliding_window_pattern": 2,
        },
        pooling=pooling,
        tokenizer="bpe",
    )


DECODERS = {
    "eurobert": _EUROBERT,
    "qwen3": _QWEN3,
    "gemma3-both": _gemma(both=True, real=Sizes(width=768, layers=24, heads=3, inner=1152), pooling="mean"),
    "gemma3": _gemma(both=False, real=Sizes(width=640, layers=18, heads=4, inner=2048), pooling="lasttoken"),
}
