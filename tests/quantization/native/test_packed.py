"""Weights in the places where the kernels read them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimbed._model_folder.network import EncoderShape
from nimbed.quantization.native.packed import Widths, _padded, _panels, _placed, settings_of


def shape(hidden, heads, intermediate=100, **changes):
    return EncoderShape(
        **{
            "architecture": "bert",
            "hidden": hidden,
            "heads": heads,
            "layers": 2,
            "intermediate": intermediate,
            "activation": "gelu",
            "epsilon": 1e-12,
            "padding": -1,
            **changes,
        }
    )


@given(heads=st.integers(1, 16), head_dim=st.integers(1, 128))
def test_every_component_has_a_place_of_its_own(heads, head_dim):
    encoder = shape(heads * head_dim, heads)
    widths = Widths.of(encoder)
    places = widths.places(encoder)
    assert len(set(places.tolist())) == encoder.hidden
    assert 0 <= places.min() <= places.max() < widths.context
    assert widths.groups * widths.group_heads == heads
    assert widths.group % 64 == widths.hidden % 64 == 0
    # Heads begin at whole cache lines, and none is split between groups.
    starts = places[::head_dim]
    assert not (starts % 16).any()
    assert (starts // widths.group == places[head_dim - 1 :: head_dim] // widths.group).all()


@pytest.mark.parametrize(("size", "padded"), [(1, 64), (64, 64), (65, 128)])
def test_widths_are_whole_panels(size, padded):
    assert _padded(size) == padded
    assert Widths.of(shape(64, 4, size)).intermediate == padded


def test_values_at_their_places_and_zeros_elsewhere():
    placed = _placed(np.float32([[1, 2], [3, 4]]), np.array([2, 0]), 3, axis=1)
    np.testing.assert_array_equal(placed, [[2, 0, 1], [4, 0, 3]])


def test_panels_hold_64_outputs_and_the_sums_of_their_rows():
    rng = np.random.default_rng(0)
    rows = rng.integers(-127, 128, (128, 8)).astype(np.float32)
    steps, bias = rng.random((128, 1)).astype(np.float32), rng.random(128).astype(np.float32)
    panels = _panels("up", rows, steps, bias)
    assert panels["up.weights"].shape == (2, 2, 64, 4)  # panels, inputs / 4, outputs, 4 inputs
    assert panels["up.weights"].dtype == np.int8
    np.testing.assert_array_equal(panels["up.weights"][1, 1, 5], rows[64 + 5, 4:8])
    np.testing.assert_allclose(panels["up.sum"][1, 0, 5], steps[69, 0] * rows[69].sum(), rtol=1e-6)
    np.testing.assert_array_equal(panels["up.bias"], bias)


def test_settings_name_what_the_engine_must_know():
    made = settings_of(
        shape(48, 3, activation="relu", padding=1),
        pooling="cls",
        normalize=True,
        tables={"words": 9, "positions": 8, "types": 1},
    )
    assert (made["hidden_size"], made["head_dim"], made["group_heads"], made["groups"]) == (48, 16, 3, 1)
    assert (made["activation"], made["pooling"], made["normalize"], made["padding_id"]) == (2, 0, 1, 1)
    assert made["intermediate_width"] == 128
