"""Rounding to int8 for the inputs that a product really sees."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nimbed.quantization.native import packed
from nimbed.quantization.native.rounding import rounded, scales_of


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), inputs=st.integers(64, 200), outputs=st.integers(8, 40))
def test_rounding_is_closer_than_to_the_nearest(seed, inputs, outputs):
    rng = np.random.default_rng(seed)
    weights = rng.standard_normal((outputs, inputs)).astype(np.float32)
    x = (rng.standard_normal((500, inputs)) @ rng.standard_normal((inputs, inputs))).astype(np.float32)
    groups = np.arange(inputs) // 96
    scales = scales_of(weights, groups)[:, groups]
    made = rounded(weights, scales, x.T @ x)
    nearest = np.rint(weights / scales)
    assert made.dtype == np.int8
    assert np.abs(made.astype(int)).max() <= 127

    def error(values):
        return np.linalg.norm(x @ (values * scales - weights).T)

    # Of few weights chance decides; of many, what one rounding loses the others make good.
    assert error(made) < 0.9 * error(nearest)


def test_rounding_without_inputs_is_to_the_nearest():
    weights = np.random.default_rng(0).standard_normal((3, 8)).astype(np.float32)
    weights[1] = 0
    scales = np.repeat(scales_of(weights, np.zeros(8, int)), 8, axis=1)
    np.testing.assert_array_equal(rounded(weights, scales, np.zeros((8, 8), np.float32)), np.rint(weights / scales))


def test_groups_have_scales_of_their_own():
    weights = np.float32([[1, -2, 100], [0, 0, 3]])
    np.testing.assert_allclose(scales_of(weights, np.array([0, 0, 1])) * 127, [[2, 100], [127, 3]])
    assert packed._GROUP == pytest.importorskip("nimbed._native").GROUP


def test_weights_on_the_grid_stay():
    steps = np.random.default_rng(0).integers(-127, 128, (4, 300))
    steps[:, 0] = 127
    weights = (steps * 0.5).astype(np.float32)
    scales = np.full_like(weights, 0.5)
    moments = np.diag(np.arange(1, 301)).astype(np.float32)
    np.testing.assert_array_equal(rounded(weights, scales, moments), steps)


def test_moments_that_no_inputs_have_are_refused():
    weights = np.ones((2, 4), np.float32)
    with pytest.raises(np.linalg.LinAlgError):
        rounded(weights, weights, np.full((4, 4), -1, np.float32))
