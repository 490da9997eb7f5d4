from __future__ import annotations

import numpy as np
import pytest
from tests.support.described import change, described, tensors_of, weights_of, written

from nimbed._model_folder.networks.description import NormStep
from nimbed.errors import SpecError


@pytest.fixture
def folder(tmp_path):
    return written("gemma3", tmp_path)


def reaches(network):
    return [(network.attention[kind].back, network.attention[kind].ahead) for kind in network.attention_of]


def test_a_window_ends_at_the_token_or_lies_around_it(folder):
    assert reaches(described(folder)) == [(15, 0), (None, 0), (15, 0)]
    assert reaches(described(change(folder, use_bidirectional_attention=True))) == [(8, 8), (None, None), (8, 8)]


@pytest.mark.parametrize("value", [False, None, 0])
def test_masks_that_is_causal_opens_are_refused(value, folder):
    with pytest.raises(SpecError, match=r"config\.json: is_causal: .* is not honoured"):
        described(change(folder, is_causal=value))
    assert described(change(folder, is_causal=True)) == described(written("gemma3", folder.parent / "plain"))


def test_branches_have_norms_of_their_own(folder):
    network = described(folder)
    step = NormStep(epsilon=1e-6, keeps=True, rms=True, after=1e-6)
    assert network.attention_norms == (step,) * 3
    assert network.output_norms[-1] == NormStep(epsilon=1e-6, rms=True, after=1e-6)
    assert network.embedding_norm.after is None


def test_norms_multiply_by_one_more_and_words_by_the_root_of_the_width(folder):
    weights, stored = weights_of(folder), tensors_of(folder)
    for ours, theirs in {
        "layers.1.attention_norm": "layers.1.pre_feedforward_layernorm",
        "layers.1.attention_norm.after": "layers.1.post_attention_layernorm",
        "layers.1.output_norm.after": "layers.1.post_feedforward_layernorm",
        "layers.1.key_norm": "layers.1.self_attn.k_norm",
    }.items():
        np.testing.assert_array_equal(weights[f"{ours}.weight"], 1 + stored[f"{theirs}.weight"])
    # Scores are divided by the root of another number than the head's width, 32.
    scaled = (1 + stored["layers.0.self_attn.q_norm.weight"]) * np.float32((32 / 24) ** 0.5)
    np.testing.assert_allclose(weights["layers.0.query_norm.weight"], scaled, rtol=1e-6)
    np.testing.assert_allclose(weights["words"], stored["embed_tokens.weight"] * 96**0.5, rtol=1e-6)


@pytest.mark.parametrize(
    ("key", "value"), [("attention_bias", True), ("attn_logit_softcapping", 50.0), ("final_logit_softcapping", 30.0)]
)
def test_another_network_is_refused(key, value, folder):
    with pytest.raises(SpecError, match=rf"config\.json: {key}: .* is not honoured"):
        described(change(folder, **{key: value}))
