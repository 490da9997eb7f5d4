"""What a model folder says that cannot be honoured is an error that names the file and the key."""

from __future__ import annotations

import re

import pytest

from nimbed.errors import InputError, ModelNotFoundError
from nimbed.spec import SpecOverrides, read_spec
from tests.support.model_folders import BERT, DENSE, OLD, refused, write


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"activation_function": "torch.nn.modules.activation.Mish"}, "activation_function"),
        ({"activation_function": "my.own.Tanh"}, "activation_function"),
        ({"in_features": 16}, "in_features"),
        ({"in_features": None}, "in_features"),
        ({"out_features": "8"}, "out_features"),
        ({"out_features": True}, "out_features"),
        ({"use_residual": True}, "use_residual"),
        ({"module_input_name": "token_embeddings"}, "module_input_name"),
        ({"module_output_name": ["other"]}, "module_output_name"),
    ],
)
def test_dense_that_cannot_be_honoured(tmp_path, change, key):
    files = {"2_Dense/config.json": {**DENSE, **change}, "2_Dense/model.safetensors": "-"}
    refused(write(tmp_path, ["Transformer", "Pooling", "Dense"], files), "2_Dense/config.json", key)


def test_dense_weights_that_are_not_there(tmp_path):
    files = {"2_Dense/config.json": DENSE, "2_Dense/model.onnx": "-"}
    folder = write(tmp_path, ["Transformer", "Pooling", "Dense"], files)
    refused(folder, "2_Dense", "model.safetensors or pytorch_model.bin is missing")


@pytest.mark.parametrize(
    "kind",
    ["my_package.Pooling", "sentence_transformers.models.LSTM", "sentence_transformers.base.modules.router.Router", ""],
)
def test_custom_and_unknown_modules(tmp_path, kind):
    refused(write(tmp_path, ["Transformer", "Pooling", kind]), "modules.json", "type", repr(kind))


@pytest.mark.parametrize(
    "kinds",
    [
        ["Transformer", "Pooling", "Normalize", "Dense"],
        ["Transformer", "Pooling", "Normalize", "Normalize"],
        ["Transformer", "Pooling", "Pooling"],
        ["Pooling", "Transformer"],
        ["Transformer", "Dense", "Pooling"],
    ],
)
def test_modules_in_another_order(tmp_path, kinds):
    files = {f"{i}_{k}/config.json": DENSE | {"pooling_mode": "mean"} for i, k in enumerate(kinds)}
    files |= {f"{i}_Dense/model.safetensors": "-" for i in range(4)}
    refused(write(tmp_path, kinds, files), "modules.json", "type", "order")


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"pooling_mode": "mean_sqrt_len_tokens"}, "mean_sqrt_len_tokens"),
        ({"pooling_mode_mean_sqrt_len_tokens": True}, "mean_sqrt_len_tokens"),
        ({"pooling_mode": ["cls", "mean"]}, "['cls', 'mean']"),
        ({"pooling_mode_cls_token": True, "pooling_mode_max_tokens": True}, "['cls', 'max']"),
        ({"pooling_mode": "attention"}, "attention"),
        ({"pooling_mode": 3}, "pooling_mode"),
        ({"pooling_mode": {"cls": 1}}, "pooling_mode"),
        ({}, "pooling_mode"),
        ({"pooling_mode": "mean", "include_prompt": False}, "include_prompt"),
        ({"pooling_mode": "mean", "embedding_dimension": 33}, "embedding_dimension"),
        ({"pooling_mode": "mean", "word_embedding_dimension": 33}, "embedding_dimension"),
    ],
)
def test_pooling_that_cannot_be_honoured(tmp_path, config, named):
    refused(write(tmp_path, files={"1_Pooling/config.json": config}), "1_Pooling/config.json", named)


def test_remote_code_is_refused_unless_a_graph_makes_it_needless(tmp_path):
    config = {**BERT, "auto_map": {"AutoModel": "modeling.Custom"}}
    refused(write(tmp_path, files={"config.json": config}), "config.json", "auto_map", "never runs")
    for graph in ("onnx/model.onnx", "openvino/openvino_model.xml"):
        folder = write(tmp_path / graph.partition("/")[0], files={"config.json": config, graph: "-"})
        assert read_spec(folder).pooling == "mean"


@pytest.mark.parametrize(
    ("path", "content", "key"),
    [
        ("sentence_bert_config.json", {"transformer_task": "fill-mask"}, "transformer_task"),
        ("sentence_bert_config.json", {"module_output_name": "sentence_embedding"}, "module_output_name"),
        ("sentence_bert_config.json", {"max_seq_length": "256"}, "max_seq_length"),
        ("sentence_bert_config.json", {"processor_kwargs": {"do_lower_case": False}}, "processor_kwargs"),
        ("sentence_bert_config.json", {"tokenizer_args": {"do_lower_case": False}}, "tokenizer_args"),
        ("sentence_bert_config.json", {"tokenizer_name_or_path": "other"}, "tokenizer_name_or_path"),
        ("sentence_bert_config.json", {"processing_kwargs": {"text": {"max_length": 4}}}, "processing_kwargs"),
        ("sentence_bert_config.json", {"processing_kwargs": {"common": {"max_length": 4}}}, "processing_kwargs"),
        ("sentence_bert_config.json", {"config_kwargs": {"num_hidden_layers": 1}}, "config_kwargs"),
        ("sentence_bert_config.json", {"model_args": {"subfolder": "other"}}, "model_args"),
        ("sentence_bert_config.json", {"query_length": 8}, "query_length"),
        ("sentence_bert_config.json", {"modality_config": {"message": {"method": "forward"}}}, "modality_config: text"),
        ("sentence_bert_config.json", {"modality_config": {"text": {"method": "get_text"}}}, "method"),
        ("sentence_bert_config.json", {"query_expansion": {"strategy": "fixed", "length": 8}}, "query_expansion"),
        ("tokenizer_config.json", {"model_max_length": -1}, "model_max_length"),
        ("2_Normalize/config.json", {"module_input_name": "token_embeddings"}, "module_input_name"),
        ("config.json", {"hidden_size": "32"}, "hidden_size"),
        ("config.json", {"model_type": "t5"}, "hidden_size"),
        ("config_sentence_transformers.json", {"prompts": ["query: "]}, "prompts"),
        ("config_sentence_transformers.json", {"prompts": {"query": 5}}, "prompts"),
        ("config_sentence_transformers.json", {"default_prompt_name": "passage"}, "default_prompt_name"),
        ("modules.json", ["Transformer"], "Transformer"),
        ("modules.json", [{"idx": 0, "path": "../other", "type": OLD["Transformer"]}], "path"),
        ("modules.json", [{"idx": 0, "path": "0_Transformer", "type": OLD["Transformer"]}], "path"),
    ],
)
def test_settings_that_cannot_be_honoured(tmp_path, path, content, key):
    refused(write(tmp_path, ["Transformer", "Pooling", "Normalize"], {path: content}), path, key)


@pytest.mark.parametrize(
    "path", ["config.json", "modules.json", "1_Pooling/config.json", "sentence_bert_config.json",
             "tokenizer_config.json", "config_sentence_transformers.json"]
)  # fmt: skip
@pytest.mark.parametrize("content", ['{"cut": ', "", "null", '"text"', "\xff"])
def test_damaged_json_is_named(tmp_path, path, content):
    folder = write(tmp_path)
    (folder / path).write_bytes(content.encode("latin-1"))
    refused(folder, path)


def test_an_object_where_a_list_is_wanted_and_the_reverse(tmp_path):
    refused(write(tmp_path, files={"modules.json": {"0": "Transformer"}}), "modules.json", "an object")
    refused(write(tmp_path / "other", files={"config.json": [BERT]}), "config.json", "a list")


def test_missing_files(tmp_path):
    refused(tmp_path / "nowhere", "no such model folder", error=ModelNotFoundError)
    refused(write(tmp_path, files={"config.json": None}), "config.json", "missing", error=ModelNotFoundError)
    refused(write(tmp_path / "no-pooling", files={"1_Pooling/config.json": None}), "1_Pooling/config.json", "missing")


@pytest.mark.parametrize("limit", [None, 10**30])
def test_no_limit_anywhere(tmp_path, limit):
    config = {"model_type": "bert", "hidden_size": 32}
    folder = write(tmp_path, files={"config.json": config, "tokenizer_config.json": {"model_max_length": limit}})
    refused(folder, "max_seq_length", "model_max_length", "max_position_embeddings")


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        ({"pooling": "median"}, "pooling='median'"),
        ({"prompts": {"query": None}}, "'query'"),
        ({"prompts": 3}, "prompts=3 must be a dictionary"),
        ({"normalize": "yes"}, "normalize='yes' must be True or False"),
    ],
)
def test_overrides_are_checked(overrides, named):
    with pytest.raises(InputError, match=re.escape(named)):
        SpecOverrides(**overrides)
