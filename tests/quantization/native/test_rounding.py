"""Rounding to int8 for the inputs that a product really sees."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nimbed.quantization.native.rounding import add_second_moments, rounded, scales_of

_native = pytest.importorskip("nimbed._native", reason="the native engine is not compiled here")
SETS = [name for name in ("reference", "avx2", "avx512") if _native.rounding.kernels(name) is not None]


def floats(values):
    return np.ascontiguousarray(values, np.float32)


def drawn(seed, inputs, outputs, rows=500):
    """Weights, and inputs that depend on each other."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, inputs)) @ rng.standard_normal((inputs, inputs))
    return floats(rng.standard_normal((outputs, inputs))), floats(x)


def moments_of(x):
    """The lower triangle alone, as callers have it."""
    return np.tril(x.astype(np.float64).T @ x)


def one_by_one(weights, steps, moments):
    """GPTQ as the paper has it: what is left of the inverse is updated after every input."""
    moments = np.tril(moments) + np.tril(moments, -1).T
    order = np.argsort(-moments.diagonal(), kind="stable")
    damped = moments + 0.01 * moments.diagonal().mean() * np.eye(len(moments))
    inverse = np.linalg.inv(damped[np.ix_(order, order)])
    left, steps = weights[:, order].astype(np.float64), steps[:, order]
    made = np.empty(left.shape)
    for i in range(len(order)):
        made[:, i] = np.clip(np.rint(left[:, i] / steps[:, i]), -127, 127)
        error = (left[:, i] - made[:, i] * steps[:, i]) / inverse[i, i]
        left[:, i:] -= error[:, None] * inverse[i, i:]
        inverse -= np.outer(inverse[:, i], inverse[i]) / inverse[i, i]
    return made[:, np.argsort(order)]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), inputs=st.integers(64, 200), outputs=st.integers(8, 140))
def test_rounding_is_closer_than_to_the_nearest_and_as_the_paper_has_it(seed, inputs, outputs):
    weights, x = drawn(seed, inputs, outputs)
    groups = np.arange(inputs) // 96
    steps = scales_of(weights, groups)
    made = rounded(weights, steps, groups, moments_of(x), threads=2)
    scales = steps[:, groups]
    assert made.dtype == np.int8
    assert np.abs(made.astype(int)).max() <= 127

    def error(values):
        return np.linalg.norm(x @ (values * scales - weights).T)

    expected = one_by_one(weights, scales, moments_of(x))
    assert (made == expected).mean() > 0.98
    assert error(made) < 1.01 * error(expected)
    # Of few weights chance decides; of many, what one rounding loses the others make good.
    assert error(made) < 0.9 * error(np.rint(weights / scales))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 99), rows=st.integers(1, 1300), inputs=st.integers(1, 200), outputs=st.integers(1, 150))
@example(seed=0, rows=1025, inputs=64, outputs=64)
@example(seed=0, rows=257, inputs=65, outputs=63)
@example(seed=0, rows=1, inputs=1, outputs=1)
@example(seed=0, rows=300, inputs=321, outputs=129)
def test_threads_and_instruction_sets_change_no_bit(seed, rows, inputs, outputs):
    rng = np.random.default_rng(seed)
    weights, x = floats(rng.standard_normal((outputs, inputs))), floats(rng.standard_normal((rows, inputs)))
    groups = np.arange(inputs) * 3 // inputs
    steps = np.repeat(scales_of(weights, np.zeros(inputs, int)), 3, axis=1)
    found = []
    for kernels, threads in [("auto", threads) for threads in (1, 2, 3)] + [(name, 2) for name in SETS]:
        sums = np.zeros((inputs, inputs))
        _native.rounding.second_moments(x, sums, threads, kernels)
        made = _native.rounding.gptq(weights, steps, groups, sums, threads, kernels)
        found.append((sums.tobytes(), made.tobytes()))
    assert len(set(found)) == 1
    np.testing.assert_allclose(sums, moments_of(x), rtol=1e-5, atol=1e-5 * rows)


def test_moments_of_more_rows_are_added():
    _, x = drawn(0, 70, 1, rows=900)
    sums = np.zeros((70, 70))
    for part in (x[:0], x[:500], x[500:]):
        add_second_moments(part, sums, threads=2)
    expected = moments_of(x)
    np.testing.assert_allclose(sums, expected, atol=1e-6 * np.abs(expected).max())


def test_many_rows_are_added_in_double_precision():
    sums = np.zeros((1, 1))
    add_second_moments(np.full((300_000, 1), 1.0001, np.float32), sums, threads=1)
    np.testing.assert_allclose(sums, 300_000 * np.float64(np.float32(1.0001)) ** 2, rtol=3e-6)


def test_rounding_without_inputs_is_to_the_nearest():
    weights = floats(np.random.default_rng(0).standard_normal((3, 8)))
    weights[1] = 0
    groups = np.zeros(8, int)
    steps = scales_of(weights, groups)
    made = rounded(weights, steps, groups, np.zeros((8, 8)), threads=1)
    np.testing.assert_array_equal(made, np.rint(weights / steps))


def test_groups_have_scales_of_their_own():
    weights = np.float32([[1, -2, 100], [0, 0, 3], [1e-45, 0, 0]])
    steps = scales_of(weights, np.array([0, 0, 1]))
    np.testing.assert_allclose(steps * 127, [[2, 100], [127, 3], [127, 127]])


def test_weights_on_the_grid_stay():
    whole = np.random.default_rng(0).integers(-127, 128, (4, 300))
    steps = np.full((4, 1), 0.5, np.float32)
    moments = np.diag(np.arange(1.0, 301))
    made = rounded(floats(whole * 0.5), steps, np.zeros(300, int), moments, threads=2)
    np.testing.assert_array_equal(made, whole)


def test_halves_are_rounded_to_even():
    weights = np.float32([[0.5, 1.5, 2.5, -0.5, -1.5, 126.5, -200]])
    made = rounded(weights, np.ones((1, 1), np.float32), np.zeros(7, int), np.zeros((7, 7)), threads=1)
    np.testing.assert_array_equal(made, [[0, 2, 2, 0, -2, 126, -127]])


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"moments": np.full((4, 4), -1.0)}, "not positive definite"),
        ({"moments": np.array([[1.0, 0, 0, 0], [9, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])}, "not positive definite"),
        ({"moments": np.full((4, 4), np.nan)}, "a moment is not finite"),
        ({"moments": np.zeros((3, 3))}, "moments are no"),
        ({"weights": np.full((2, 4), np.inf, np.float32)}, "a weight is not finite"),
        ({"weights": np.zeros((2, 0), np.float32)}, "weights are no"),
        ({"steps": np.zeros((2, 1), np.float32)}, "a step is not positive"),
        ({"steps": np.ones((3, 1), np.float32)}, "steps for each output"),
        ({"groups": np.ones(4, int)}, "a group has no steps"),
        ({"groups": np.zeros(3, int)}, "a group for each input"),
    ],
)
def test_what_cannot_be_rounded_is_refused(change, why):
    given_ = {
        "weights": np.ones((2, 4), np.float32),
        "steps": np.ones((2, 1), np.float32),
        "groups": np.zeros(4, int),
        "moments": np.eye(4),
    }
    with pytest.raises(ValueError, match=why):
        rounded(**{**given_, **change}, threads=1)


def test_sums_of_another_shape_or_type_are_refused():
    with pytest.raises(ValueError, match="sums are no"):
        add_second_moments(np.ones((2, 3), np.float32), np.zeros((2, 2)), threads=1)
    with pytest.raises(TypeError):
        add_second_moments(np.ones((2, 3), np.float32), np.zeros((3, 3), np.float32), threads=1)
    with pytest.raises(ValueError, match="no matrix kernels of the name neon2"):
        _native.rounding.second_moments(np.ones((2, 3), np.float32), np.zeros((3, 3)), 1, "neon2")
