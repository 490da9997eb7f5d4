from __future__ import annotations

import numpy as np
from tests.support.described import described, written

from nimbed._model_folder.networks import family


def test_rows_of_one_tensor_are_several_layers():
    found = family.joined({"a": 2, "b": 1}, "theirs", 4)
    weight = np.arange(12).reshape(3, 4)
    assert found["a.weight"].tensors == found["b.weight"].tensors == {"theirs.weight": (3, 4)}
    np.testing.assert_array_equal(found["a.weight"].fold(weight), weight[:2])
    np.testing.assert_array_equal(found["b.weight"].fold(weight), weight[2:])
    np.testing.assert_array_equal(found["b.bias"].fold(np.array([1, 2, 3])), [3])


def test_biases_that_are_not_there_are_zeros():
    found = {**family.linear("a", "theirs", 2, 4, bias=False), **family.norm("n", "norm", 3, bias=False)}
    for name, size in (("a.bias", 2), ("n.bias", 3)):
        assert found[name].tensors == {}
        np.testing.assert_array_equal(found[name].fold(), np.zeros(size, np.float32))


def test_a_layer_with_fewer_heads_of_keys(tmp_path):
    from dataclasses import replace

    network = replace(described(written("gte-new", tmp_path)), key_value_heads=2)
    names = family.Names(tables={}, layer="l.{}.", parts={"query+key+value": "qkv", "output": "o"})
    found = family.encoder(network, names)
    assert found["layers.0.key.weight"].tensors == {"l.0.qkv.weight": (96 + 2 * 32, 96)}
    np.testing.assert_array_equal(found["layers.0.value.bias"].fold(np.arange(160)), np.arange(128, 160))


def test_rows_of_rows():
    source = family.whole("theirs", 4).rows(slice(1, 4)).rows(np.array([2, 0]))
    np.testing.assert_array_equal(source.fold(np.array([1, 2, 3, 4])), [4, 2])
