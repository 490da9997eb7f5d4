"""Model folders of every form that sentence-transformers and transformers write become the same spec."""

from __future__ import annotations

import json
import shutil
import warnings
from dataclasses import asdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nimbed._model_folder.modules import POOLINGS
from nimbed._types import DenseSpec, ModelSpec
from nimbed.errors import SpecError
from nimbed.spec import SpecOverrides, read_spec, spec_from_dict
from tests.support.model_folders import BERT, DENSE, NEW, OLD, refused, write

FLAGS = {
    "cls": "pooling_mode_cls_token",
    "lasttoken": "pooling_mode_lasttoken",
    "max": "pooling_mode_max_tokens",
    "mean": "pooling_mode_mean_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
}


@pytest.mark.parametrize("pooling", POOLINGS)
def test_old_form(tmp_path, pooling):
    flags = {flag: name == pooling for name, flag in FLAGS.items()}
    files = {
        "1_Pooling/config.json": {"word_embedding_dimension": 32, **flags},
        "sentence_bert_config.json": {"max_seq_length": 48, "do_lower_case": True},
        "tokenizer_config.json": {"model_max_length": 60},
    }
    spec = read_spec(write(tmp_path, ["Transformer", "Pooling", "Normalize"], files))
    assert (spec.pooling, spec.normalize, spec.max_length, spec.lowercase) == (pooling, True, 48, True)
    assert (spec.architecture, spec.hidden_size, spec.dim, spec.positions) == ("bert", 32, 32, 64)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_form_of_release_6(tmp_path, pooling):
    files = {
        "1_Pooling/config.json": {"embedding_dimension": 32, "pooling_mode": pooling, "include_prompt": True},
        "2_Normalize/config.json": {"module_input_name": "sentence_embedding"},
        "sentence_bert_config.json": {
            "transformer_task": "feature-extraction",
            "module_output_name": "token_embeddings",
            "model_kwargs": {"attn_implementation": "sdpa", "torch_dtype": "float16"},
            "processing_kwargs": {"text": {"padding": True}, "chat_template": {"add_generation_prompt": True}},
            "query_length": None,
        },
        "tokenizer_config.json": {"model_max_length": 40, "truncation_side": "left"},
        "config_sentence_transformers.json": {"similarity_fn_name": "dot", "model_type": "SentenceTransformer"},
    }
    spec = read_spec(write(tmp_path, ["Transformer", "Pooling", "Normalize"], files, types=NEW))
    assert (spec.pooling, spec.normalize, spec.max_length, spec.lowercase) == (pooling, True, 40, False)
    assert (spec.similarity, spec.truncation_side) == ("dot", "left")


def test_what_a_folder_leaves_out(tmp_path):
    spec = read_spec(write(tmp_path, files={"tokenizer_config.json": {}}))
    assert (spec.normalize, spec.similarity, spec.truncation_side, dict(spec.prompts)) == (False, "cosine", "right", {})


def test_sentence_transformers_itself_writes_the_folder(minilm_folder, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own, not ours
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(str(minilm_folder), device="cpu")
        model.prompts = {"query": "ask: ", "passage": "tell: "}
        model.save(str(tmp_path / "saved"))
    saved, original = read_spec(tmp_path / "saved"), read_spec(minilm_folder)
    assert saved.prompt("query") == "ask: "
    assert saved.prompt("document") == "tell: "
    assert saved == SpecOverrides(prompts=saved.prompts).apply(original, "")
    assert (original.max_length, original.pooling, original.normalize, original.dim) == (256, "mean", True, 384)


@pytest.mark.parametrize("types", [OLD, NEW])
@pytest.mark.parametrize(
    ("activation", "known"), [("Tanh", "tanh"), ("GELU", "gelu"), ("ReLU", "relu"), ("Sigmoid", "sigmoid")]
)
def test_dense(tmp_path, types, activation, known):
    config = {**DENSE, "activation_function": f"torch.nn.modules.activation.{activation}"}
    files = {"2_Dense/config.json": config, "2_Dense/model.safetensors": "-"}
    spec = read_spec(write(tmp_path, ["Transformer", "Pooling", "Dense", "Normalize"], files, types=types))
    expected = DenseSpec(
        weights="2_Dense/model.safetensors", in_features=32, out_features=8, bias=False, activation=known
    )
    assert (spec.dense, spec.dim, spec.hidden_size, spec.normalize) == ((expected,), 8, 32, True)


def test_dense_layers_follow_each_other(tmp_path):
    second = {"in_features": 8, "out_features": 4, "activation_function": "torch.nn.modules.linear.Identity"}
    files = {"2_Dense/config.json": DENSE, "2_Dense/model.safetensors": "-"}
    files |= {"3_Dense/config.json": second, "3_Dense/model.safetensors": "-"}
    spec = read_spec(write(tmp_path, ["Transformer", "Pooling", "Dense", "Dense"], files))
    assert [d.out_features for d in spec.dense] == [8, 4]
    assert spec.dim == 4


def test_a_plain_folder_needs_a_pooling(tmp_path):
    folder = write(tmp_path, [])
    refused(folder, "modules.json", "SpecOverrides(pooling=", *POOLINGS)
    spec = read_spec(folder, overrides=SpecOverrides(pooling="max"))
    assert (spec.pooling, spec.normalize) == ("max", False)
    assert read_spec(folder, overrides=SpecOverrides(pooling="max", normalize=True)).normalize


def test_the_user_goes_before_the_folder(tmp_path):
    folder = write(tmp_path, ["Transformer", "Pooling", "Normalize"])
    spec = read_spec(folder, overrides=SpecOverrides(pooling="cls", normalize=False))
    assert (spec.pooling, spec.normalize) == ("cls", False)
    assert spec.origins["pooling"] == spec.origins["normalize"] == "set by the user"


@pytest.mark.parametrize(
    ("config", "asked", "kept"),
    [
        (BERT, 200, 64),
        (BERT, 60, 60),
        (BERT, 10**30, 64),
        ({**BERT, "model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1}, 600, 512),
        ({**BERT, "model_type": "xlm-roberta", "max_position_embeddings": 514, "pad_token_id": 1}, None, 512),
        ({**BERT, "model_type": "mpnet", "max_position_embeddings": 514, "pad_token_id": 1}, 384, 384),
        ({**BERT, "model_type": "xlnet", "max_position_embeddings": -1}, 700, 700),
        ({"model_type": "distilbert", "dim": 32, "max_position_embeddings": 512}, 1000, 512),
        ({"model_type": "gpt2", "hidden_size": 32, "n_positions": 100}, 1000, 100),
    ],
)
@pytest.mark.parametrize("file", ["sentence_bert_config.json", "sentence_roberta_config.json", "tokenizer_config.json"])
def test_max_length_within_the_positions(tmp_path, config, asked, kept, file):
    key = "model_max_length" if file == "tokenizer_config.json" else "max_seq_length"
    assert read_spec(write(tmp_path, files={"config.json": config, file: {key: asked}})).max_length == kept


names = st.sampled_from(["query", "document", "other"])
specs = st.builds(
    ModelSpec,
    architecture=st.text(max_size=9),
    hidden_size=st.integers(1, 4096),
    dim=st.integers(1, 4096),
    pooling=st.sampled_from(POOLINGS),
    normalize=st.booleans(),
    max_length=st.integers(1, 9000),
    positions=st.none() | st.integers(1, 9000),
    dense=st.lists(
        st.builds(
            DenseSpec, weights=st.text(max_size=9), in_features=st.integers(1, 99), out_features=st.integers(1, 99),
            bias=st.booleans(), activation=st.sampled_from(["gelu", "identity", "relu", "sigmoid", "tanh"]),
        ),
        max_size=3,
    ).map(tuple),
    prompts=st.dictionaries(names, st.text(max_size=20)),
    similarity=st.sampled_from(["cosine", "dot", "euclidean"]),
    truncation_side=st.sampled_from(["left", "right"]),
    lowercase=st.booleans(),
    origins=st.dictionaries(names, st.text(max_size=20)),
)  # fmt: skip


@given(spec=specs)
@settings(deadline=None)
def test_round_trip_through_json(spec):
    again = spec_from_dict(json.loads(json.dumps(asdict(spec))))
    assert again == spec
    assert again.origins == spec.origins


def test_a_folder_that_asks_for_cut_vectors_is_refused(tiny_folder, tmp_path):
    folder = shutil.copytree(tiny_folder, tmp_path / "cut")
    (folder / "config_sentence_transformers.json").write_text('{"truncate_dim": 16}')
    with pytest.raises(SpecError, match=r"config_sentence_transformers\.json: truncate_dim: 16: .* with dim="):
        read_spec(folder)
