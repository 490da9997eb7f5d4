"""The exact forward pass in numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nimbed._model_folder.network import read_shape
from nimbed.errors import SpecError
from nimbed.quantization.native.bert import by_distance, forward, gelu, pooled, read_weights
from nimbed.spec import read_spec


def test_the_exact_pass_is_torchs(minilm_folder):
    import torch
    import transformers

    shape = read_shape(minilm_folder, read_spec(minilm_folder))
    weights = read_weights(minilm_folder / "model.safetensors", shape)
    ids = np.random.default_rng(0).integers(1000, 29000, 80).astype(np.int32)
    model = transformers.AutoModel.from_pretrained(minilm_folder).eval()
    with torch.inference_mode():
        expected = model(torch.from_numpy(ids[None].astype(np.int64))).last_hidden_state[0].numpy()
    found = forward(weights, shape, ids)
    assert np.linalg.norm(found - expected) <= 2e-6 * np.linalg.norm(expected)


def test_gelu_is_erfs():
    x = np.linspace(-9, 9, 2001, dtype=np.float32)
    exact = [value * (1 + math.erf(value / math.sqrt(2))) / 2 for value in x.tolist()]
    np.testing.assert_allclose(gelu(x), exact, atol=1e-6)


@pytest.mark.parametrize("longest", [1, 7, 200])
def test_distances_fall_into_the_buckets_of_mpnet(longest):
    import torch
    from transformers.models.mpnet.modeling_mpnet import MPNetEncoder

    table = np.random.default_rng(0).standard_normal((32, 4)).astype(np.float32)
    nearness = by_distance(table, longest)
    distance = torch.arange(-longest, longest)
    bucket = MPNetEncoder.relative_position_bucket(distance, num_buckets=32).numpy()
    np.testing.assert_array_equal(nearness, table[bucket].T)


@pytest.mark.parametrize(
    ("pooling", "expected"), [("cls", [3, 0]), ("lasttoken", [0, 8]), ("max", [3, 8]), ("mean", [1, 4])]
)
def test_poolings(pooling, expected):
    hidden = np.float32([[3, 0], [0, 4], [0, 8]])
    np.testing.assert_allclose(pooled(hidden, pooling, normalize=False), expected)
    assert np.linalg.norm(pooled(hidden, pooling, normalize=True)) == pytest.approx(1, abs=1e-6)


def test_a_vector_of_zeros_stays():
    assert not pooled(np.zeros((2, 3), np.float32), "mean", normalize=True).any()


def test_weights_that_are_not_there_are_named(tiny_folder):
    from dataclasses import replace

    shape = read_shape(tiny_folder, read_spec(tiny_folder))
    with pytest.raises(SpecError, match=r"model\.safetensors lacks .*layer\.2\."):
        read_weights(tiny_folder / "model.safetensors", replace(shape, layers=shape.layers + 1))
    with pytest.raises(SpecError, match=r"up\.(weight|bias) has the shape"):
        read_weights(tiny_folder / "model.safetensors", replace(shape, intermediate=shape.intermediate + 1))
