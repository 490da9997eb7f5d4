"""What the inputs of each product are like, layer by layer."""

from __future__ import annotations

import numpy as np
import pytest

from nimbed._model_folder.network import EncoderShape
from nimbed.quantization.native.bert import _names, embedded, through_layer
from nimbed.quantization.native.observed import Seen, layer_by_layer

pytest.importorskip("nimbed._native", reason="the native engine is not compiled here")
SHAPE = EncoderShape(
    architecture="bert", hidden=8, heads=2, layers=2, intermediate=16, activation="gelu", epsilon=1e-12, padding=-1
)
SEQUENCES = [np.arange(start, start + length, dtype=np.int32) for start, length in ((0, 3), (5, 9), (2, 1))]


@pytest.fixture(scope="module")
def weights():
    rng = np.random.default_rng(0)
    sizes = {"up.weight": (16, 8), "up.bias": (16,), "down.weight": (8, 16)}
    made = {}
    for name in _names(SHAPE):
        square = (8, 8) if name.endswith("weight") and "norm" not in name else (8,)
        table = {"words": (20, 8), "positions": (20, 8), "types": (1, 8)}.get(name)
        made[name] = rng.standard_normal(table or sizes.get(".".join(name.split(".")[-2:]), square)).astype(np.float32)
    return made


def observe(weights, sequences, threads=2):
    return list(layer_by_layer(weights, SHAPE, sequences, threads))


def test_moments_and_maxima_are_those_of_all_texts(weights):
    found = observe(weights, SEQUENCES)
    hidden = [embedded(weights, SHAPE, sequence) for sequence in SEQUENCES]
    for number in range(SHAPE.layers):
        rows = np.concatenate(hidden)
        assert found[number].keys() == {"query", "output", "up", "down"}
        np.testing.assert_allclose(found[number]["query"].moments, np.tril(rows.T @ rows), rtol=1e-4, atol=1e-4)
        np.testing.assert_array_equal(found[number]["query"].largest, np.abs(rows).max(axis=0))
        hidden = [through_layer(weights, SHAPE, number, x) for x in hidden]
    assert [seen["down"].moments.shape for seen in found] == [(16, 16)] * 2


def test_threads_change_no_bit(weights):
    one, three = observe(weights, SEQUENCES * 5, threads=1), observe(weights, SEQUENCES * 5, threads=3)
    for a, b in zip(one, three, strict=True):
        assert all(np.array_equal(a[name].moments, b[name].moments) for name in a)


def test_more_is_added_to_what_was_seen():
    seen = Seen.nothing(2)
    seen.add(np.float32([[1, -5], [0, 1]]), threads=1)
    seen.add(np.float32([[3, 4]]), threads=1)
    np.testing.assert_array_equal(seen.moments, [[10, 0], [7, 42]])
    np.testing.assert_array_equal(seen.largest, [3, 5])
