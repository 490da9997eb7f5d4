from __future__ import annotations

import numpy as np
import pytest
from tests.support.described import change, described, tensors_of, weights_of, written

from nimbed._model_folder.networks.description import NormStep
from nimbed.errors import SpecError


@pytest.fixture
def folder(tmp_path):
    return written("eurobert", tmp_path)


def test_norms_in_the_order_in_which_they_are_executed(folder):
    network, weights, stored = described(folder), weights_of(folder), tensors_of(folder)
    inner, last = NormStep(epsilon=1e-5, keeps=True, rms=True), NormStep(epsilon=1e-5, rms=True)
    assert (network.embedding_norm, network.attention_norms) == (inner, (inner,) * 3)
    assert network.output_norms == (inner, inner, last)
    for ours, theirs in {
        "embedding_norm": "layers.0.input_layernorm",
        "layers.0.attention_norm": "layers.0.post_attention_layernorm",
        "layers.0.output_norm": "layers.1.input_layernorm",
        "layers.2.output_norm": "norm",
    }.items():
        np.testing.assert_array_equal(weights[f"{ours}.weight"], stored[f"{theirs}.weight"])
        assert not weights[f"{ours}.bias"].any()


def test_a_head_is_as_wide_as_it_is_said_to_be(folder):
    assert described(folder).head_dim == 16
    assert described(change(folder, head_dim=40)).head_dim == 40


def test_heads_of_keys_divide_those_of_queries(folder):
    network = described(folder)
    assert (network.heads, network.key_value_heads) == (6, 2)
    assert described(change(folder, "num_key_value_heads")).key_value_heads == 6
    with pytest.raises(SpecError, match=r"config\.json: num_key_value_heads: .*divides the 6 heads"):
        described(change(folder, num_key_value_heads=4))


@pytest.mark.parametrize(
    "keys",
    [
        {"head_dim": 1040},
        {"head_dim": 1024, "num_attention_heads": 32},
        {"head_dim": 0},
        {"num_attention_heads": 1025, "head_dim": 8},
        {"num_hidden_layers": 1025},
    ],
)
def test_what_the_engine_has_no_room_for_is_refused_by_key(keys, folder):
    with pytest.raises(SpecError, match=rf"config\.json: {next(iter(keys))}: "):
        described(change(folder, **keys))
