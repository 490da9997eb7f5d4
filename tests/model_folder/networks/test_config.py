from __future__ import annotations

import pytest
from tests.support.described import change, described, written

from nimbed._files.json import Fields
from nimbed._model_folder.networks import config
from nimbed.errors import SpecError


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("bert", {"is_decoder": True}),
        ("bert", {"add_cross_attention": True}),
        ("bert", {"position_embedding_type": "relative_key"}),
        ("bert", {"rope_parameters": {"rope_theta": 1000.0}}),
        ("bert", {"num_key_value_heads": 2}),
        ("bert", {"head_dim": 8}),
        ("bert", {"pruned_heads": {"0": [1]}}),
        ("bert", {"quantization_config": {"bits": 4}}),
        ("bert", {"lora_adaptations": ["one"]}),
        ("xlm-roberta", {"use_rms_norm": True}),
        ("bert", {"position_embedding_type": "sans_pos"}),
        ("mpnet", {"relative_attention_num_buckets": 64}),
        ("modernbert", {"rope_scaling": {"type": "linear", "factor": 2.0}}),
        ("modernbert", {"position_embedding_type": "relative_key"}),
        ("nomic-bert", {"partial_rotary_factor": 0.5}),
        ("modernbert", {"sliding_window": 4}),
        ("nomic-bert-remote", {"num_experts": 8}),
        ("nomic-bert-remote", {"moe_every_n_layers": 2}),
        ("nomic-bert-remote", {"prenorm": True}),
        ("nomic-bert-remote", {"parallel_block": True}),
        ("nomic-bert-remote", {"use_rms_norm": True}),
        ("nomic-bert-remote", {"causal": True}),
        ("nomic-bert-remote", {"scale_attn_by_inverse_layer_idx": True}),
        ("nomic-bert-remote", {"scale_attn_weights": False}),
        ("nomic-bert-remote", {"rotary_scaling_factor": 2.0}),
        ("nomic-bert-remote", {"rotary_emb_scale_base": 512}),
        ("nomic-bert-remote", {"rotary_emb_dim": 8}),
        ("nomic-bert", {"head_dim": 8}),
        ("gte-new", {"logn_attention_scale": True}),
        ("gte-new", {"layer_norm_type": "rms_norm"}),
        ("gte-new", {"position_embedding_type": "absolute"}),
        ("jina-bert-v2", {"feed_forward_type": "swiglu"}),
        ("jina-v3-remote", {"use_reg_tokens": True}),
        ("jina-v3-remote", {"rotary_emb_dim": 8}),
        ("jina-v3-remote", {"rotary_emb_interleaved": True}),
        ("jina-v3-remote", {"rotary_emb_scale_base": 512}),
        ("modernbert-cross", {"classifier_pooling": "max"}),
    ],
)
def test_what_is_not_honoured_is_refused_by_file_and_key(family, changes, tmp_path):
    folder = change(written(family, tmp_path), **changes)
    with pytest.raises(SpecError, match=rf"config\.json: {next(iter(changes))}: .* is not honoured .*; .* is"):
        described(folder)


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("bert", {"num_attention_heads": 5}),
        ("bert", {"num_attention_heads": 0}),
        ("bert", {"hidden_size": 8256}),
        ("bert", {"intermediate_size": 1 << 20}),
        ("bert", {"num_hidden_layers": 2**31 - 1}),
        ("bert", {"num_hidden_layers": 1025}),
        ("bert", {"num_attention_heads": 2048, "hidden_size": 2048}),
        ("bert", {"num_attention_heads": 1, "hidden_size": 1040}),
        ("distilbert", {"n_heads": 1, "dim": 1040}),
        ("modernbert", {"num_attention_heads": 1, "hidden_size": 1040}),
        ("modernbert", {"num_hidden_layers": 1025}),
        ("bert", {"type_vocab_size": 1025}),
        ("gte-new", {"vocab_size": (1 << 24) + 1}),
        ("bert", {"layer_norm_eps": -1}),
        ("bert", {"layer_norm_eps": "small"}),
        ("bert", {"vocab_size": 0}),
        ("distilbert", {"n_heads": 7}),
        ("modernbert", {"local_attention": 0}),
        ("modernbert", {"layer_types": ["full_attention"]}),
        ("modernbert", {"layer_types": [{}, [], 3]}),
        ("modernbert", {"global_attn_every_n_layers": 0}),
        ("modernbert", {"max_position_embeddings": 1 << 30}),
        ("modernbert", {"local_rope_theta": 0}),
        ("nomic-bert-remote", {"rotary_emb_fraction": 0.01}),
        ("nomic-bert-remote", {"rotary_emb_fraction": 1e308}),
        ("nomic-bert-remote", {"rotary_emb_base": -1}),
        ("electra-cross", {"embedding_size": 32}),
    ],
)
def test_numbers_that_make_no_network_are_refused_by_file_and_key(family, changes, tmp_path):
    folder = change(written(family, tmp_path), **changes)
    with pytest.raises(SpecError, match=rf"config\.json: {next(iter(changes))}: .* is not"):
        described(folder)


@pytest.mark.parametrize(
    "keys",
    [
        {"gradient_checkpointing": True, "transformers_version": "4.34.0", "torch_dtype": "float16"},
        {"is_decoder": False, "position_embedding_type": None, "pruned_heads": {}, "use_cache": True},
        {"hidden_dropout_prob": 0.1, "classifier_dropout": 0.3, "initializer_range": 0.02, "anything": [1, 2]},
    ],
)
def test_bookkeeping_changes_nothing(keys, tmp_path):
    folder = written("bert", tmp_path)
    before = described(folder)
    assert described(change(folder, **keys)) == before


@pytest.mark.parametrize(
    ("named", "known"),
    [("gelu", "gelu"), ("gelu_new", "gelu_tanh"), ("gelu_pytorch_tanh", "gelu_tanh"), ("relu", "relu"),
     ("silu", "silu"), ("swish", "silu"), ("tanh", "tanh")],
)  # fmt: skip
def test_names_of_activations(named, known):
    assert config.function_of(Fields({"hidden_act": named}, "config.json"), "hidden_act") == known


def test_other_activations_are_refused():
    with pytest.raises(SpecError, match=r'config\.json: hidden_act: the native engine has gelu, .*, not "quick_gelu"'):
        config.function_of(Fields({"hidden_act": "quick_gelu"}, "config.json"), "hidden_act")


def test_labels_have_names_or_a_number():
    assert config.labels_of(Fields({"id2label": {"0": "one"}}, "config.json")) == 1
    assert config.labels_of(Fields({"num_labels": 3}, "config.json")) == 3
    assert config.labels_of(Fields({}, "config.json")) == 2
