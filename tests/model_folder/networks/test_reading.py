from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from tests.support.described import (
    change,
    cosine,
    described,
    families,
    ids_of,
    plain,
    save,
    spec_of,
    tensors_of,
    weights_of,
    written,
)
from tests.support.oracles import oracle_layers, oracle_scores
from tests.support.rotary_families import FAMILIES

from nimbed._model_folder.networks.reading import read_weights
from nimbed._types import DenseSpec
from nimbed.errors import SpecError


@pytest.fixture
def bert(tmp_path):
    return written("bert", tmp_path / "bert")


@pytest.mark.parametrize("family", [name for name in families() if not FAMILIES[name].scores])
def test_the_description_and_the_weights_give_the_oracles_token_vectors(family, tmp_path):
    folder = written(family, tmp_path, variant="plain")
    for task in ["", *FAMILIES[family].adapters[:2]]:
        network, ids = plain(folder, adapter=task), ids_of(folder)
        for one, states in zip(ids, oracle_layers(folder, ids, task=task or None), strict=True):
            assert cosine(network.hidden(np.array(one))[-1], states[-1]) > 0.9999999


@pytest.mark.parametrize("family", [name for name in families() if FAMILIES[name].scores])
def test_the_heads_give_the_oracles_scores(family, tmp_path):
    folder = written(family, tmp_path, variant="plain")
    network, ids = plain(folder), ids_of(folder)
    scores = np.array([network.vector(np.array(one)) for one in ids])
    np.testing.assert_allclose(scores, oracle_scores(folder, ids), atol=1e-5)


def test_weights_are_views_of_the_file_where_it_holds_float32(bert):
    weights = weights_of(bert)
    assert {values.dtype for values in weights.values()} == {np.dtype(np.float32)}
    assert len(weights) == len(list(weights))
    for name in ("words", "layers.0.query.weight", "layers.2.output_norm.bias"):
        assert isinstance(weights[name].base, np.memmap) or isinstance(weights[name], np.memmap)


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float64"])
def test_other_kinds_of_numbers_become_float32(kind, bert):
    import safetensors.torch
    import torch

    wanted = {name: np.array(values) for name, values in weights_of(bert).items()}
    stored = safetensors.torch.load_file(bert / "model.safetensors")
    narrow = {name: values.to(getattr(torch, kind)) for name, values in stored.items()}
    safetensors.torch.save_file(narrow, bert / "model.safetensors", {"format": "pt"})
    for name, values in weights_of(bert).items():
        assert values.dtype == np.float32
        np.testing.assert_allclose(values, wanted[name], rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("prefix", ["", "bert.", "model.", "0.auto_model."])
def test_the_encoders_prefix_is_of_no_account(prefix, bert):
    wanted = {name: np.array(values) for name, values in weights_of(bert).items()}
    save(bert, {prefix + name: values for name, values in tensors_of(bert).items()})
    for name, values in weights_of(bert).items():
        np.testing.assert_array_equal(values, wanted[name])


def test_norms_may_have_the_names_of_tensorflow(bert):
    wanted = np.array(weights_of(bert)["embedding_norm.weight"])
    renamed = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): values
        for name, values in tensors_of(bert).items()
    }
    np.testing.assert_array_equal(weights_of(save(bert, renamed))["embedding_norm.weight"], wanted)


def test_norms_by_both_names_are_refused(bert):
    tensors, name = tensors_of(bert), "embeddings.LayerNorm.{}"
    save(bert, {**tensors, name.format("gamma"): tensors[name.format("weight")] + 1})
    with pytest.raises(SpecError, match=r"embeddings\.LayerNorm\.gamma and .*LayerNorm\.weight are one tensor of"):
        weights_of(bert)


def test_two_encoders_of_one_table_are_refused(bert):
    """By their names without the prefix they would be one, with the weights of whichever came last."""
    tensors = tensors_of(bert)
    other = {name: one + 1 for name, one in tensors.items() if name.startswith("encoder.")}
    both = {**{f"bert.{name}": one for name, one in tensors.items()}, **other}
    save(bert, both)
    with pytest.raises(SpecError, match=r"model\.safetensors: \S*encoder\.layer\.\S+ and \S+ are one tensor"):
        weights_of(bert)


@pytest.mark.parametrize("prefix", ["", "bert."])
@pytest.mark.parametrize("lost", ["embeddings.word_embeddings.weight", "encoder.layer.1.attention.self.query.bias"])
def test_a_missing_tensor_is_named(prefix, lost, bert):
    save(bert, {prefix + name: values for name, values in tensors_of(bert).items() if name != lost})
    with pytest.raises(SpecError, match=rf"model\.safetensors lacks {prefix}{lost} \(and 0 more\)"):
        weights_of(bert)


@pytest.mark.parametrize(
    "extra",
    ["encoder.layer.0.attention.self.query.lora_A.weight", "encoder.layer.3.output.dense.bias", "norm.weight"],
)
def test_a_tensor_that_is_not_read_is_named(extra, bert):
    save(bert, {**tensors_of(bert), extra: np.zeros(4, np.float32)})
    with pytest.raises(SpecError, match=rf"{extra} \(and 0 more\) is no tensor of the network"):
        weights_of(bert)


@pytest.mark.parametrize(
    "unused", ["embeddings.position_ids", "cls.predictions.bias", "pooler.dense.bias", "rotary_emb.inv_freq"]
)
def test_other_heads_and_constants_are_passed_over(unused, bert):
    save(bert, {**tensors_of(bert), unused: np.zeros(4, np.float32)})
    assert unused not in weights_of(bert)


@pytest.mark.parametrize("name", ["embeddings.word_embeddings.weight", "encoder.layer.1.output.dense.weight"])
def test_a_tensor_of_another_shape_is_named(name, bert):
    tensors = tensors_of(bert)
    save(bert, {**tensors, name: tensors[name][:-1]})
    with pytest.raises(SpecError, match=rf"model\.safetensors: {name} has the shape \[.*\], config\.json says \["):
        weights_of(bert)


def test_whole_numbers_are_no_weights(bert):
    tensors = tensors_of(bert)
    save(bert, {**tensors, "embeddings.LayerNorm.bias": np.zeros(96, np.int8)})
    with pytest.raises(SpecError, match=r"embeddings\.LayerNorm\.bias is of int8"):
        weights_of(bert)


def test_a_description_of_another_network_is_refused(bert):
    spec = spec_of(bert)
    with pytest.raises(SpecError, match="model_type is not that of the description: mpnet"):
        read_weights(bert / "model.safetensors", bert, replace(described(bert), family="mpnet"), spec)


@pytest.mark.parametrize("bias", [True, False])
def test_dense_layers_of_the_folder_come_behind_the_networks_own(bias, bert):
    rng = np.random.default_rng(0)
    own = {"linear.weight": rng.normal(size=(32, 96)).astype(np.float32), "linear.bias": np.ones(32, np.float32)}
    (bert / "2_Dense").mkdir()
    save(bert / "2_Dense", {name: values for name, values in own.items() if bias or "bias" not in name})
    dense = DenseSpec(
        weights="2_Dense/model.safetensors", in_features=96, out_features=32, bias=bias, activation="tanh"
    )
    network, weights = described(bert, dense=(dense,)), weights_of(bert, dense=(dense,))
    assert [(head.outputs, head.activation, head.norm) for head in network.head] == [(32, "tanh", None)]
    np.testing.assert_array_equal(weights["head.0.weight"], own["linear.weight"])
    np.testing.assert_array_equal(weights["head.0.bias"], own["linear.bias"] * bias)


def test_parts_of_a_network_are_read_together(bert, tmp_path):
    folder = shutil.copytree(bert, tmp_path / "parts")
    (folder / "model.safetensors").rename(folder / "a.safetensors")
    index = {"weight_map": dict.fromkeys(tensors_of(bert), "a.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    spec = spec_of(folder)
    weights = read_weights(folder / "model.safetensors.index.json", folder, described(folder), spec)
    np.testing.assert_array_equal(weights["words"], weights_of(bert)["words"])


def test_tables_that_are_not_there_have_no_weights(tmp_path):
    folder = change(written("gte-new", tmp_path), type_vocab_size=0)
    tensors = {name: one for name, one in tensors_of(folder).items() if "token_type" not in name}
    assert {"positions", "types", "distances"}.isdisjoint(weights_of(save(folder, tensors)))


def test_pages_that_were_given_back_are_read_again(bert):
    weights = weights_of(bert)
    before = {name: weights[name].copy() for name in weights}
    weights.release()
    for name, expected in before.items():
        np.testing.assert_array_equal(weights[name], expected)
