from __future__ import annotations

import numpy as np
import pytest
from tests.support.described import change, described, save, tensors_of, weights_of, written

from nimbed._model_folder.networks.description import Head
from nimbed.errors import SpecError


@pytest.fixture
def folder(tmp_path):
    return written("gte-new", tmp_path / "new")


def test_both_configs_are_one_description(folder, tmp_path):
    other = written("gte", tmp_path / "other")
    assert described(folder) == described(other)
    for name, values in weights_of(folder).items():
        np.testing.assert_array_equal(values, weights_of(other)[name])


def test_the_scaled_base_as_its_authors_compute_it(folder):
    """NTK with a fixed factor: the base times the factor, and each frequency divided by factor ** (2 / head_dim)."""
    turns = described(folder).attention[0].rotary
    wanted = 1 / (20_000 * 8.0) ** (np.arange(0, 16, 2) / 16) / 8.0 ** (2 / 16)
    np.testing.assert_allclose(turns, wanted, rtol=1e-15)


def test_transformers_5_says_the_same_as_a_linear_scaling(folder):
    turns = described(folder).attention[0].rotary
    linear = {"rope_type": "linear", "factor": 8.0 ** (2 / 16), "rope_theta": 160_000.0}
    other = described(change(folder, "rope_scaling", "rope_theta", rope_parameters=linear))
    np.testing.assert_allclose(other.attention[0].rotary, turns, rtol=1e-15)


def test_no_scaling(folder):
    turns = described(change(folder, rope_scaling=None, rope_theta=500_000)).attention[0].rotary
    np.testing.assert_allclose(turns, 500_000.0 ** (-np.arange(0, 16, 2) / 16), rtol=1e-15)


def test_the_base_where_none_is_said_is_that_of_its_class(folder, tmp_path):
    """Checked against transformers 5.24's GteModel: token vectors are off by 1e-4 at most, of 0.8 on average."""
    turns = described(change(written("gte", tmp_path / "gte"), "rope_parameters")).attention[0].rotary
    np.testing.assert_allclose(turns, 160_000.0 ** (-np.arange(0, 16, 2) / 16), rtol=1e-15)
    turns = described(change(folder, "rope_scaling", "rope_theta")).attention[0].rotary
    np.testing.assert_allclose(turns, 10_000.0 ** (-np.arange(0, 16, 2) / 16), rtol=1e-15)


@pytest.mark.parametrize(
    ("scaling", "key"),
    [
        ({"type": "dynamic", "factor": 2.0}, "type"),
        ({"type": "ntk", "factor": 2.0, "mixed_b": 0.5}, "mixed_b"),
        ({"type": "ntk", "factor": 0.5}, "factor"),
        ({"type": "ntk"}, "factor"),
        ({"rope_type": "yarn", "factor": 4.0}, "rope_type"),
        ({"rope_type": "default", "partial_rotary_factor": 0.5}, "partial_rotary_factor"),
    ],
)
def test_other_scalings_are_refused(scaling, key, folder):
    with pytest.raises(SpecError, match=rf"config\.json: rope_scaling: {key}:? .*is"):
        described(change(folder, rope_scaling=scaling))


def test_the_second_half_is_the_gate(folder):
    up, gate = np.split(tensors_of(folder)["new.encoder.layer.1.mlp.up_gate_proj.weight"], 2)
    weights = weights_of(folder)
    np.testing.assert_array_equal(weights["layers.1.up.weight"], up)
    np.testing.assert_array_equal(weights["layers.1.gate.weight"], gate)


def test_queries_keys_and_values_may_lie_apart(folder):
    wanted = {name: np.array(values) for name, values in weights_of(folder).items()}
    apart = {}
    for name, values in tensors_of(folder).items():
        if "qkv_proj" in name:
            apart |= {name.replace("qkv", one): part for one, part in zip("qkv", np.split(values, 3), strict=True)}
        else:
            apart[name] = values
    for name, values in weights_of(change(save(folder, apart), pack_qkv=False)).items():
        np.testing.assert_array_equal(values, wanted[name])


def test_the_classifier(folder):
    rng, tensors = np.random.default_rng(0), tensors_of(folder)
    for name, shape in {
        "new.pooler.dense.weight": (96, 96),
        "new.pooler.dense.bias": (96,),
        "classifier.weight": (1, 96),
        "classifier.bias": (1,),
    }.items():
        tensors[name] = rng.normal(size=shape).astype(np.float32)
    change(save(folder, tensors), architectures=["NewForSequenceClassification"], id2label={"0": "LABEL_0"})
    assert described(folder).head == (Head(outputs=96, activation="tanh"), Head(outputs=1, activation="identity"))
    np.testing.assert_array_equal(weights_of(folder)["head.0.weight"], tensors["new.pooler.dense.weight"])
