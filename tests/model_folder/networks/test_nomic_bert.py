from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.support.described import change, described, plain, save, tensors_of, weights_of, written

from nimbed._model_folder.networks.rotary import frequencies


@pytest.fixture
def folder(tmp_path):
    return written("nomic-bert-remote", tmp_path / "own")


def test_both_configs_are_one_description(folder, tmp_path):
    other = written("nomic-bert", tmp_path / "other")
    assert described(folder) == described(other)
    for name, values in weights_of(folder).items():
        np.testing.assert_array_equal(values, weights_of(other)[name])


def test_the_names_of_the_tensors_do_not_depend_on_the_config(folder, tmp_path):
    other = written("nomic-bert", tmp_path / "other")
    wanted = {name: np.array(values) for name, values in weights_of(folder).items()}
    tensors, others = tensors_of(folder), tensors_of(other)
    for into, stored in ((folder, others), (other, tensors)):
        for name, values in weights_of(save(into, stored)).items():
            np.testing.assert_array_equal(values, wanted[name])


def turned(x: np.ndarray, pairs: list[tuple[int, int]], theta: float, turning: int) -> np.ndarray:
    """``[tokens, heads, head_dim]``, each pair of components by its own angle."""
    made = x.copy()
    for number, (a, b) in enumerate(pairs):
        angle = np.arange(len(x))[:, None] * theta ** (-2 * number / turning)
        made[..., a] = x[..., a] * np.cos(angle) - x[..., b] * np.sin(angle)
        made[..., b] = x[..., b] * np.cos(angle) + x[..., a] * np.sin(angle)
    return made


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("turning", [16, 8, 2])
def test_the_components_that_turn_together_come_to_lie_half_a_head_apart(interleaved, turning, folder):
    change(folder, rotary_emb_fraction=turning / 16, rotary_emb_interleaved=interleaved, qkv_proj_bias=False)
    network, rng = described(folder), np.random.default_rng(0)
    assert network.attention[0].rotary == frequencies(1000.0, 16, turning)
    x = rng.normal(size=(9, 96))
    half = turning // 2
    pairs = [(2 * i, 2 * i + 1) if interleaved else (i, i + half) for i in range(half)]
    q, k = (
        turned((x @ part.astype(np.float64).T).reshape(9, 6, 16), pairs, 1000.0, turning)
        for part in np.split(tensors_of(folder)["encoder.layers.1.attn.Wqkv.weight"], 3)[:2]
    )
    wanted = np.einsum("ihd,jhd->hij", q, k)
    weights = weights_of(folder)
    halves = [(i, i + 8) for i in range(half)]
    q, k = (
        turned((x @ weights[f"layers.1.{part}.weight"].astype(np.float64).T).reshape(9, 6, 16), halves, 1000.0, turning)
        for part in ("query", "key")
    )
    np.testing.assert_allclose(np.einsum("ihd,jhd->hij", q, k), wanted, atol=1e-9)


@pytest.mark.parametrize(
    ("named", "activation", "gated"),
    [("swiglu", "silu", True), ("geglu", "gelu", True), ("glu", "sigmoid", True), ("gelu", "gelu", False)],
)
def test_activations_and_gates(named, activation, gated, folder):
    network = described(change(folder, activation_function=named))
    assert (network.activation, network.gated) == (activation, gated)


def test_a_block_without_a_gate_has_one_product_before_the_activation(folder):
    tensors = tensors_of(folder)
    plain_block = {name.replace("fc11", "fc1"): one for name, one in tensors.items() if "fc12" not in name}
    wanted = plain(folder)
    change(save(folder, plain_block), activation_function="gelu_new")
    network = plain(folder)
    assert "layers.0.gate.weight" not in network.weights
    np.testing.assert_array_equal(network.weights["layers.0.up.weight"], wanted.weights["layers.0.up.weight"])
    assert replace(wanted.network, gated=False, activation="gelu_tanh") == network.network


def test_biases_that_the_config_says_there_are(folder):
    rng, tensors = np.random.default_rng(0), tensors_of(folder)
    for name in list(tensors):
        if "attn." in name or "mlp." in name:
            tensors[name.replace("weight", "bias")] = rng.normal(size=len(tensors[name])).astype(np.float32)
    change(save(folder, tensors), "qkv_proj_bias", "mlp_fc1_bias", "mlp_fc2_bias")
    weights = weights_of(folder)
    query, key, value = np.split(tensors["encoder.layers.0.attn.Wqkv.bias"], 3)
    for part, bias in {"value": value, "gate": tensors["encoder.layers.0.mlp.fc12.bias"]}.items():
        np.testing.assert_array_equal(weights[f"layers.0.{part}.bias"], bias)
    np.testing.assert_array_equal(weights["layers.0.query.bias"], query)
    np.testing.assert_array_equal(weights["layers.0.key.bias"], key)
