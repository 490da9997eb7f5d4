from __future__ import annotations

import numpy as np
import pytest
from tests.support.described import change, described, tensors_of, weights_of, written

from nimbed._model_folder.networks.rotary import frequencies
from nimbed.errors import SpecError


@pytest.fixture
def folder(tmp_path):
    return written("qwen3", tmp_path)


def test_tokens_read_what_is_before_them(folder):
    network = described(folder)
    (kind,) = network.attention
    assert (kind.back, kind.ahead) == (None, 0)


def test_queries_and_keys_are_normed(folder):
    assert described(folder).head_norm == 1e-6
    weights, stored = weights_of(folder), tensors_of(folder)
    for part in ("query", "key"):
        np.testing.assert_array_equal(
            weights[f"layers.1.{part}_norm.weight"], stored[f"layers.1.self_attn.{part[0]}_norm.weight"]
        )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("attention_bias", True),
        ("is_causal", False),
        ("is_causal", None),
        ("layer_types", ["sliding_attention"] * 3),
        ("use_sliding_window", True),
    ],
)
def test_another_network_is_refused(key, value, folder):
    with pytest.raises(SpecError, match=rf"config\.json: {key}: .* is not honoured"):
        described(change(folder, **{key: value}))


def test_the_base_of_rotary_positions_is_the_classs_where_none_is_said(folder):
    for gone in ({}, {"rope_parameters": {"rope_type": "default"}}, {"rope_scaling": {"rope_type": "default"}}):
        (kind,) = described(change(folder, "rope_theta", "rope_parameters", "rope_scaling")).attention
        assert kind.rotary == frequencies(10_000.0, 32)
        (kind,) = described(change(folder, **gone)).attention
        assert kind.rotary == frequencies(10_000.0, 32)


def test_what_transformers_writes_of_full_attention_is_honoured(folder):
    said = change(folder, layer_types=["full_attention"] * 3, is_causal=True, sliding_window=4096)
    assert described(said).attention == described(folder).attention
