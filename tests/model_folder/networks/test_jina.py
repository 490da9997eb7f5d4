from __future__ import annotations

import numpy as np
import pytest
from tests.support.described import change, described, save, tensors_of, weights_of, written

from nimbed._model_folder.networks.description import AttentionKind
from nimbed._model_folder.networks.rotary import frequencies
from nimbed.errors import SpecError


@pytest.fixture
def second(tmp_path):
    return written("jina-bert-v2", tmp_path / "v2")


def test_the_second_version_adds_slopes_and_has_no_positions(second):
    network = described(second)
    assert network.attention == (AttentionKind(distances="alibi"),)
    assert (network.family, network.positions, network.types, network.max_length) == ("jina_bert_v2", None, 2, 64)
    assert (network.activation, network.gated) == ("gelu", True)


def test_the_first_half_is_the_gate(second):
    gate, up = np.split(tensors_of(second)["encoder.layer.1.mlp.gated_layers.weight"], 2)
    weights = weights_of(second)
    np.testing.assert_array_equal(weights["layers.1.up.weight"], up)
    np.testing.assert_array_equal(weights["layers.1.gate.weight"], gate)


def test_gates_may_be_rectified(second):
    assert described(change(second, feed_forward_type="reglu")).activation == "relu"


def test_a_block_of_berts_kind(second, tmp_path):
    bert = tensors_of(written("bert", tmp_path / "bert"))
    stored = {name: one for name, one in bert.items() if "position" not in name}
    change(save(second, stored), "feed_forward_type")
    network = described(second)
    assert (network.activation, network.gated) == ("gelu", False)
    np.testing.assert_array_equal(
        weights_of(second)["layers.0.up.weight"], bert["encoder.layer.0.intermediate.dense.weight"]
    )


def test_norms_of_queries_and_keys_are_refused_by_name(second):
    places = {"AutoModel": "jinaai/jina-bert-v2-qk-post-norm--modeling_bert.JinaBertModel"}
    with pytest.raises(SpecError, match=r"config\.json: auto_map: .*norms of queries and keys"):
        described(change(second, auto_map=places))


def test_without_its_code_it_is_known_by_its_positions(second):
    assert described(change(second, "auto_map")).family == "jina_bert_v2"


@pytest.mark.parametrize("family", ["jina-v3", "jina-v3-remote"])
def test_the_third_version_turns(family, tmp_path):
    network = described(written(family, tmp_path))
    assert network.attention == (AttentionKind(rotary=frequencies(20_000.0, 16)),)
    assert (network.family, network.positions, network.types, network.padding) == ("jina_v3", None, 1, -1)
    assert network.max_length == 66


def test_a_width_that_turns_is_the_whole_heads(tmp_path):
    folder = written("jina-v3-remote", tmp_path)
    before = described(folder)
    assert described(change(folder, rotary_emb_dim=16, rotary_emb_interleaved=False)) == before


def test_both_configs_of_the_third_version_are_one_description(tmp_path):
    own, other = (written(family, tmp_path / family) for family in ("jina-v3-remote", "jina-v3"))
    assert described(own) == described(other)
    for name, values in weights_of(own).items():
        np.testing.assert_array_equal(values, weights_of(other)[name])
