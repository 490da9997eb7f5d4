"""What folders of cross-encoders say, and which are refused."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest
from tests.support.model_folders import NEW, refused, write
from tests.support.qwen3_rerankers import CHAT_TEMPLATE

from nimbed import SpecOverrides
from nimbed._model_folder.pair_template import QWEN3_INSTRUCTION, QWEN3_RERANKER
from nimbed.errors import InputError
from nimbed.spec import read_spec, spec_from_dict

CLASSIFIER = {
    "model_type": "bert",
    "architectures": ["BertForSequenceClassification"],
    "hidden_size": 32,
    "max_position_embeddings": 64,
    "id2label": {"0": "LABEL_0"},
}
IDENTITY = "torch.nn.modules.linear.Identity"
SIGMOID = "torch.nn.modules.activation.Sigmoid"


def folder(tmp_path, kinds=(), files=None, **config):
    return write(
        tmp_path,
        kinds,
        {"1_Pooling/config.json": None, "config.json": {**CLASSIFIER, **config}, **(files or {})},
        types=NEW,
    )


def test_one_label_is_a_cross_encoder(tmp_path):
    spec = read_spec(folder(tmp_path, files={"tokenizer_config.json": {"model_max_length": 48}}))
    assert (spec.task, spec.dim, spec.activation, spec.max_length, spec.positions) == ("scoring", 1, "sigmoid", 48, 64)
    assert spec.origins["activation"] == "sentence-transformers' default for one label"


def test_a_folder_of_sentence_transformers_6(tmp_path):
    spec = read_spec(folder(tmp_path, ["Transformer"]))
    assert spec.task == "scoring"


def test_pooling_makes_an_embedder_of_a_classifier(tmp_path):
    made = folder(tmp_path, ["Transformer", "Pooling"], {"1_Pooling/config.json": {"pooling_mode": "mean"}})
    assert read_spec(made).task == "embedding"


OWN = "config_sentence_transformers.json"


@pytest.mark.parametrize(
    ("config", "own", "activation", "origin"),
    [
        ({"sentence_transformers": {"activation_fn": IDENTITY}}, None, "identity", "config.json: activation_fn"),
        ({"sbert_ce_default_activation_function": IDENTITY}, None, "identity", "sbert_ce_default_activation_function"),
        ({"sbert_ce_default_activation_function": None}, None, "sigmoid", "default"),
        ({"sentence_transformers": {"activation_fn": IDENTITY}}, SIGMOID, "sigmoid", OWN),
        ({}, IDENTITY, "identity", OWN),
    ],
)
def test_activation_is_found_where_sentence_transformers_looks(tmp_path, config, own, activation, origin):
    spec = read_spec(folder(tmp_path, files={OWN: own and {"activation_fn": own}}, **config))
    assert spec.activation == activation
    assert origin in spec.origins["activation"]


def test_the_spec_survives_a_manifest(tmp_path):
    spec = read_spec(folder(tmp_path, sentence_transformers={"activation_fn": IDENTITY}))
    assert spec_from_dict(json.loads(json.dumps(asdict(spec)))) == spec


def test_what_is_refused(tmp_path):
    refused(folder(tmp_path / "a", id2label={"0": "no", "1": "yes"}), "config.json: id2label", "2 labels")
    refused(folder(tmp_path / "b", id2label=None), "config.json: id2label", "2 labels")
    refused(folder(tmp_path / "c", model_type="llama"), "config.json: model_type", "'llama'", "xlm-roberta", "qwen3")
    odd = {"sentence_transformers": {"activation_fn": "torch.nn.modules.activation.Softmax"}}
    refused(folder(tmp_path / "d", **odd), "config.json: activation_fn", "Softmax", "Sigmoid")
    refused(folder(tmp_path / "e", sbert_ce_default_activation_function="mine.Score"), "mine.Score")
    refused(folder(tmp_path / "f", ["Transformer", "Dense"]), "modules.json", "Dense")
    refused(folder(tmp_path / "g", files={OWN: {"default_prompt_name": "query"}}), "default_prompt_name")


def test_a_users_pooling_is_refused(tmp_path):
    with pytest.raises(InputError, match="is a cross-encoder"):
        read_spec(folder(tmp_path), overrides=SpecOverrides(pooling="mean"))


def test_a_decoders_classifier_needs_a_template_for_pairs(tmp_path):
    decoder = {"model_type": "qwen3", "architectures": ["Qwen3ForSequenceClassification"]}
    bare = folder(tmp_path / "any", **decoder)
    refused(bare, "tokenizer_config.json: chat_template", 'prompts={"instruction": ...}')
    for spec in (
        read_spec(folder(tmp_path / "Qwen3-Reranker-0.6B-seq-cls", **decoder)),
        read_spec(bare, name="tomaarsen/Qwen3-Reranker-4B-seq-cls"),
        read_spec(bare, overrides=SpecOverrides(prompts={"instruction": QWEN3_INSTRUCTION})),
    ):
        assert (spec.pooling, spec.template, dict(spec.prompts)) == (
            "lasttoken",
            QWEN3_RERANKER,
            {"instruction": QWEN3_INSTRUCTION},
        )
        assert not spec.answers


LANGUAGE_MODEL = {"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "vocab_size": 40, "id2label": None}
ANSWERS = {"1_LogitScore/config.json": {"true_token_id": 5, "false_token_id": 6}}
TEMPLATED = {"chat_template.jinja": CHAT_TEMPLATE}


def test_a_language_model_is_what_its_modules_say(tmp_path):
    pooled = {"1_Pooling/config.json": {"pooling_mode": "lasttoken"}, **TEMPLATED}
    embedder = read_spec(folder(tmp_path / "a", ["Transformer", "Pooling"], pooled, **LANGUAGE_MODEL))
    assert (embedder.task, embedder.template) == ("embedding", ())
    types = {**NEW, "LogitScore": "sentence_transformers.cross_encoder.modules.logit_score.LogitScore"}
    files = {"config.json": {**CLASSIFIER, **LANGUAGE_MODEL}, "1_Pooling/config.json": None, **ANSWERS}
    judge = write(tmp_path / "b", ["Transformer", "LogitScore"], {**files, **TEMPLATED}, types=types)
    spec = read_spec(judge)
    assert (spec.task, spec.answers, spec.template, spec.activation) == ("scoring", (5, 6), QWEN3_RERANKER, "sigmoid")
    assert spec_from_dict(json.loads(json.dumps(asdict(spec)))) == spec
    refused(write(tmp_path / "c", ["Transformer", "LogitScore"], files, types=types), "chat_template")
    dense = write(tmp_path / "d", ["Transformer", "LogitScore", "Dense"], {**files, **TEMPLATED}, types=types)
    refused(dense, "modules.json", "Dense")
    other = {**files, **TEMPLATED, "config.json": {**CLASSIFIER, **LANGUAGE_MODEL, "model_type": "llama"}}
    refused(
        write(tmp_path / "e", ["Transformer", "LogitScore"], other, types=types), "config.json: model_type", "qwen3"
    )
