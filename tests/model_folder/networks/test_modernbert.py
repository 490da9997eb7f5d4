from __future__ import annotations

import numpy as np
import pytest
from tests.support.described import change, cosine, described, plain, save, tensors_of, weights_of, written

from nimbed._model_folder.networks.description import AttentionKind, Head, NormStep
from nimbed._model_folder.networks.rotary import frequencies
from nimbed.errors import SpecError

FAR, NEAR = frequencies(160_000.0, 16), frequencies(10_000.0, 16)


@pytest.fixture
def folder(tmp_path):
    return written("modernbert", tmp_path)


def test_every_third_layer_is_global(folder):
    network = described(folder)
    assert network.attention == (AttentionKind(rotary=FAR), AttentionKind(back=8, ahead=8, rotary=NEAR))
    assert network.attention_of == (0, 1, 1)
    assert (network.positions, network.types, network.padding) == (None, None, -1)


def test_an_odd_window_reaches_as_far_as_transformers_has_it(folder):
    assert described(change(folder, local_attention=7)).attention[1].back == 3


def test_norms_in_the_order_in_which_they_are_executed(folder):
    network, weights, stored = described(folder), weights_of(folder), tensors_of(folder)
    inner, last = NormStep(epsilon=1e-5, keeps=True), NormStep(epsilon=1e-5, keeps=False)
    assert (network.embedding_norm, network.attention_norms) == (last, (inner,) * 3)
    assert network.output_norms == (inner, inner, last)
    for ours, theirs in {
        "embedding_norm": "embeddings.norm",
        "layers.0.attention_norm": "layers.0.mlp_norm",
        "layers.0.output_norm": "layers.1.attn_norm",
        "layers.2.output_norm": "final_norm",
    }.items():
        np.testing.assert_array_equal(weights[f"{ours}.weight"], stored[f"{theirs}.weight"])
        assert not weights[f"{ours}.bias"].any()


@pytest.mark.parametrize(
    "keys",
    [
        {"layer_types": ["full_attention", "sliding_attention", "sliding_attention"]},
        {"rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 160_000.0}}},
        {"rope_parameters": {"sliding_attention": {"rope_theta": 10_000.0}, "full_attention": None}},
    ],
)
def test_newer_keys_say_the_same(keys, folder):
    before = described(folder)
    assert described(change(folder, "global_attn_every_n_layers", **keys)) == before
    assert described(change(folder, "global_rope_theta", "local_rope_theta", **keys)) == before


def test_newer_keys_go_before_the_older(folder):
    own = {"full_attention": {"rope_theta": 500.0, "rope_type": "default"}, "sliding_attention": {"rope_theta": 20.0}}
    network = described(change(folder, rope_parameters=own, layer_types=["sliding_attention"] * 2 + ["full_attention"]))
    assert [kind.rotary for kind in network.attention] == [frequencies(500.0, 16), frequencies(20.0, 16)]
    assert network.attention_of == (1, 1, 0)


@pytest.mark.parametrize("key", ["rope_type", "type"])
def test_a_linear_scaling_by_either_key(key, folder):
    own = {"full_attention": {key: "linear", "factor": 4.0}}
    network = described(change(folder, rope_parameters=own))
    assert [kind.rotary for kind in network.attention] == [tuple(turn / 4 for turn in FAR), NEAR]


def test_a_base_that_is_of_no_kind_of_layer_is_refused(folder):
    with pytest.raises(SpecError, match=r"config\.json: rope_parameters: .* full_attention and sliding_attention"):
        described(change(folder, rope_parameters={"rope_theta": 50.0, "rope_type": "default"}))


def test_the_key_of_other_networks_positions_means_nothing(folder):
    """transformers' class does not read it; configs of ModernBERT and of mmBERT have it all the same."""
    before = described(folder)
    for kind in ("absolute", "sans_pos"):
        assert described(change(folder, position_embedding_type=kind)) == before


def test_a_scaled_base_is_refused(folder):
    own = {"full_attention": {"rope_theta": 500.0, "rope_type": "yarn", "factor": 4.0}}
    with pytest.raises(SpecError, match=r"rope_parameters: full_attention: rope_type: .yarn. is not honoured"):
        described(change(folder, rope_parameters=own))


def test_biases_that_the_config_says_there_are(folder):
    rng, tensors = np.random.default_rng(0), tensors_of(folder)
    for name in list(tensors):
        if name != "embeddings.tok_embeddings.weight":
            shape = tensors[name].shape[:1]
            tensors[name.replace("weight", "bias")] = rng.normal(size=shape).astype(np.float32)
    change(save(folder, tensors), attention_bias=True, mlp_bias=True, norm_bias=True)
    from tests.support.described import ids_of
    from tests.support.oracles import oracle_layers

    ids = ids_of(folder)
    network = plain(folder)
    for one, states in zip(ids, oracle_layers(folder, ids), strict=True):
        assert cosine(network.hidden(np.array(one))[-1], states[-1]) > 0.9999999


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_a_classifier_says_what_it_pools(pooling, tmp_path):
    network = described(change(written("modernbert-cross", tmp_path), classifier_pooling=pooling))
    assert network.pooling == pooling
    assert network.head == (
        Head(outputs=96, activation="gelu", norm=1e-5),
        Head(outputs=1, activation="identity"),
    )
