from __future__ import annotations

import numpy as np
import pytest
from tests.support.plain_network import slopes

from nimbed.backends.native_positions import by_alibi, by_bucket, rotation


def test_rotation_is_exact_at_the_end_of_a_long_text():
    made = rotation((1.0, 0.1), 8192, 32)
    assert made.shape == (8192, 32)
    assert made.dtype == np.float32
    np.testing.assert_allclose(made[8191, [0, 1, 16, 17]], [np.cos(8191), np.cos(819.1), np.sin(8191), np.sin(819.1)])
    assert (made[:, 2:16] == 1).all()
    assert not made[:, 18:].any()


@pytest.mark.parametrize("heads", [1, 6, 8, 12, 16, 20])
def test_slopes_of_any_number_of_heads(heads):
    made = by_alibi(heads, 9)
    assert made.shape == (heads, 18)
    np.testing.assert_allclose(made, -np.array(slopes(heads))[:, None] * np.abs(np.arange(-9, 9)), rtol=1e-6)


def test_buckets_are_those_of_mpnet():
    import torch
    from transformers.models.mpnet.modeling_mpnet import MPNetEncoder

    distances = np.arange(-300, 300)
    buckets = MPNetEncoder.relative_position_bucket(torch.from_numpy(distances), num_buckets=32, max_distance=128)
    table = np.random.default_rng(0).normal(size=(32, 3)).astype(np.float32)
    np.testing.assert_array_equal(by_bucket(table, 300), table[buckets.numpy()].T)
