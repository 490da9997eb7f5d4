from __future__ import annotations

import numpy as np
import pytest

from nimbed._files.json import Fields
from nimbed._model_folder.networks import rotary
from nimbed._model_folder.networks.family import whole
from nimbed.errors import SpecError


def test_frequencies():
    np.testing.assert_allclose(rotary.frequencies(10_000.0, 8), [1, 1e-1, 1e-2, 1e-3], rtol=1e-15)
    assert rotary.frequencies(10_000.0, 8, 4) == (1.0, 10_000.0**-0.5, 0.0, 0.0)


@pytest.mark.parametrize(
    ("keys", "theta"),
    [
        ({}, 500.0),
        ({"rope_theta": 7.0}, 7.0),
        ({"rope_parameters": {"rope_theta": 9.0}, "rope_theta": 7.0}, 9.0),
        ({"rope_parameters": {"rope_theta": 9.0}, "rope_scaling": {}}, 9.0),
        ({"rope_parameters": {"rope_theta": 9.0}, "rope_scaling": {"rope_type": "default"}}, 500.0),
        ({"rope_parameters": {"rope_theta": 9.0}, "rope_scaling": {"rope_theta": 11.0}}, 11.0),
    ],
)
def test_the_base(keys, theta):
    assert rotary.rotary_of(Fields(keys, "config.json"), 4, 500.0) == rotary.frequencies(theta, 4)


@pytest.mark.parametrize("theta", [0, -1, 0.5, "large", True])
def test_a_base_that_is_none_is_refused(theta):
    with pytest.raises(SpecError, match=r"config\.json: rope_theta: .* is not a"):
        rotary.rotary_of(Fields({"rope_theta": theta}, "config.json"), 4, 500.0)


@pytest.mark.parametrize("key", ["rope_type", "type"])
@pytest.mark.parametrize("place", ["rope_parameters", "rope_scaling"])
def test_a_linear_scaling_by_either_key(place, key):
    config = Fields({place: {key: "linear", "factor": 4.0}, "rope_theta": 7.0}, "config.json")
    assert rotary.rotary_of(config, 4, 500.0) == tuple(turn / 4 for turn in rotary.frequencies(7.0, 4))


@pytest.mark.parametrize(
    ("said", "key"),
    [
        ({"rope_type": "linear"}, "factor is missing"),
        ({"rope_type": "linear", "factor": None}, "factor is missing"),
        ({"rope_type": None, "type": "linear", "factor": 3.0}, "rope_type: null is not"),
        ({"type": None, "factor": 3.0}, "type: null is not"),
        ({"type": "ntk", "factor": 2.0}, 'type: "ntk" is not honoured'),
        ({"rope_type": "default", "full_attention": {"rope_theta": 9.0}}, "full_attention: .* is not honoured"),
    ],
)
def test_what_transformers_refuses_is_refused_by_key(said, key):
    with pytest.raises(SpecError, match=rf"config\.json: rope_parameters: {key}"):
        rotary.rotary_of(Fields({"rope_parameters": said}, "config.json"), 4, 500.0)


def test_neighbours_come_to_lie_half_a_head_apart():
    np.testing.assert_array_equal(rotary.halves(2, 6, 4, interleaved=True), [0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11])
    np.testing.assert_array_equal(rotary.halves(1, 6, 4, interleaved=False), [0, 1, 4, 2, 3, 5])
    np.testing.assert_array_equal(rotary.halves(1, 4, 4, interleaved=False), [0, 1, 2, 3])


def test_queries_and_keys_are_put_in_order():
    names = [f"layers.0.{part}.{kind}" for part in ("query", "key", "value") for kind in ("weight", "bias")]
    sources = {name: whole(name, 2) for name in names}
    rotary.reordered(sources, 1, np.array([1, 0]))
    folded = {name: source.fold(np.array([5, 6])).tolist() for name, source in sources.items()}
    assert folded == {name: [5, 6] if "value" in name else [6, 5] for name in names}
