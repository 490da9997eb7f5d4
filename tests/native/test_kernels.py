"""The native engine's kernels but attention: against numpy in float64, and every set bit for bit as the plain one."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.kernels import (
    ACTIVATIONS,
    FAST,
    FINE_GELU,
    GELU,
    GELU_TANH,
    NONE,
    RELU,
    SETS,
    SIGMOID,
    SILU,
    TANH,
    _native,
    assert_same_bits,
    every_set,
    floats,
    random,
    testing,
)  # fmt: skip

PANEL = 64

every_shape = pytest.mark.parametrize(
    ("rows", "k"), [(rows, k) for rows in (1, 2, 3, 4, 5, 6, 7, 12, 14, 15, 97) for k in (64, 128, 384, 1536)]
)


seeds = st.integers(0, 2**32)
magnitudes = st.sampled_from([0, 1e-42, 1e-30, 1e-4, 1, 100, 1e12, 1e30])


def packed(weights):
    """[k, 64] as the kernels read it: [2, k / 4, 32, 4]."""
    return np.ascontiguousarray(weights.astype(np.int8).reshape(-1, 4, 2, 32).transpose(2, 0, 3, 1))


def product(
    kernels, a, weights, *, steps=1.0, lows=0.0, scale=1.0, bias=0.0, activation=NONE, gate=None, group=1 << 16
):
    """``a``: [rows, k], or of several passes [passes, rows, k]."""

    def whole(value, *size):
        return floats(np.broadcast_to(np.float32(value), size))

    passes, rows, k = (a := np.ascontiguousarray(a if a.ndim == 3 else a[None])).shape
    starts = np.arange(0, k, group)
    scale = whole(scale, len(starts), PANEL)
    sums = scale * np.add.reduceat(weights, starts, axis=0)
    addend = floats(np.broadcast_to(np.float32(bias), (*(np.shape(bias)[:-1] or (1,)), PANEL)))
    scales = (whole(value, passes, len(starts), rows) for value in (steps, lows))
    arrays = (a, *scales, packed(weights), scale, floats(sums), addend)
    return testing.linear(kernels, *arrays, activation, gate=gate, group=group)


def codes(rng, rows, k):
    return rng.integers(0, 256, (rows, k), np.uint8), rng.integers(-127, 128, (k, PANEL))


def gelu(x):
    return np.vectorize(lambda value: value * 0.5 * math.erfc(-value / math.sqrt(2)))(x)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


EXACT = {
    NONE: lambda x: x,
    GELU: gelu,
    GELU_TANH: lambda x: x * 0.5 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    RELU: lambda x: np.maximum(x, 0),
    SILU: lambda x: x * sigmoid(x),
    TANH: np.tanh,
    SIGMOID: sigmoid,
    FINE_GELU: gelu,
}


@every_set
@every_shape
def test_sums_of_products_are_exact(kernels, rows, k):
    a, weights = codes(random(rows * k), rows, k)
    np.testing.assert_array_equal(product(kernels, a, weights), (a.astype(np.int64) @ weights).astype(np.float32))


@every_set
@pytest.mark.parametrize("k", [64, 384, 1536, 1 << 16])
@pytest.mark.parametrize("code", [0, 255])
@pytest.mark.parametrize("weight", [127, -127, -128])
def test_the_largest_sums_do_not_overflow(kernels, k, code, weight):
    out = product(kernels, np.full((7, k), code, np.uint8), np.full((k, PANEL), weight))
    np.testing.assert_array_equal(out, np.full((7, PANEL), code * weight * k, np.float32))


@every_set
@pytest.mark.parametrize("turn", [2, 3, 4, 8])
def test_signs_that_alternate_do_not_overflow(kernels, turn):
    k = 384
    signs = np.where(np.arange(k) % turn < turn // 2 + turn % 2, 127, -127)
    weights = np.repeat(signs[:, None], PANEL, 1) * np.where(np.arange(PANEL) % 2, 1, -1)
    a = np.where(np.arange(6)[:, None] % 2, 255, np.where(signs > 0, 255, 0)).astype(np.uint8)
    np.testing.assert_array_equal(product(kernels, a, weights), (a.astype(np.int64) @ weights).astype(np.float32))


@every_set
@every_shape
@pytest.mark.parametrize("activation", [NONE, GELU, RELU])
def test_linear(kernels, rows, k, activation):
    rng = random(rows + k)
    a, weights = codes(rng, rows, k)
    steps, lows = floats(rng.uniform(0.001, 0.05, rows)), floats(rng.uniform(-3, 1, rows))
    scale, bias = floats(rng.uniform(1e-4, 1e-3, PANEL)), floats(rng.normal(size=PANEL))
    out = product(kernels, a, weights, steps=steps, lows=lows, scale=scale, bias=bias, activation=activation)

    sums = a.astype(np.int64) @ weights
    terms = [sums * scale.astype(float) * steps[:, None], lows[:, None].astype(float) * scale * weights.sum(0), bias]
    exact = terms[0] + terms[1] + terms[2]
    exact = EXACT[activation](exact)
    near = 1e-6 * sum(np.abs(term) for term in terms) + (1e-4 if activation == GELU else 0)
    assert np.all(np.abs(out - exact) <= near)


@every_set
@pytest.mark.parametrize("rows", [1, 6, 13, 14, 29])
@pytest.mark.parametrize("group", [64, 128, 256])
@pytest.mark.parametrize("passes", [1, 2])
def test_a_product_is_the_sum_of_its_passes_and_groups_in_order(kernels, rows, group, passes):
    rng, k = random(rows), 320  # the last group is smaller
    groups = -(-k // group)
    a = rng.integers(0, 256, (passes, rows, k), np.uint8)
    weights = rng.integers(-127, 128, (k, PANEL))
    steps, lows = rng.uniform(0.001, 0.05, (passes, groups, rows)), rng.uniform(-3, 1, (passes, groups, rows))
    scale, bias = rng.uniform(1e-4, 1e-3, (groups, PANEL)), rng.normal(size=PANEL)
    whole = product(kernels, a, weights, steps=steps, lows=lows, scale=scale, bias=bias, group=group, activation=SILU)

    sums = bias
    for p, g in np.ndindex(passes, groups):
        part = slice(g * group, (g + 1) * group)
        scales = {"steps": steps[p, g], "lows": lows[p, g], "scale": scale[g]}
        last = (p, g) == (passes - 1, groups - 1)
        sums = product(kernels, a[p, :, part], weights[part], **scales, bias=sums, activation=SILU if last else NONE)
    np.testing.assert_array_equal(whole, sums)


@every_set
def test_gelu_is_the_exact_one_nearly(kernels):
    # Through the bias, which alone reaches the activation where all codes are 0.
    x = floats(np.concatenate([np.linspace(-8, 8, 64 * 500), [0, -0.0, 1e-30, -1e-30, 1e4, -1e4, 1e20, -1e20] * 8]))
    zeros = np.zeros((1, PANEL), np.uint8), np.zeros((PANEL, PANEL), np.int8)
    out = np.concatenate([product(kernels, *zeros, bias=part, activation=GELU)[0] for part in x.reshape(-1, PANEL)])
    assert np.all(np.abs(out - gelu(x.astype(float))) <= 3e-5 + 1e-6 * np.abs(x))
    assert not out[x == 0].any()


@pytest.mark.parametrize("kernels", FAST)
@given(seed=st.integers(0, 2**32), rows=st.integers(1, 30), k=st.sampled_from([64, 192, 320, 448]), data=st.data())
@settings(max_examples=40, deadline=None)
def test_a_row_does_not_depend_on_those_beside_it(kernels, seed, rows, k, data):
    rng = random(seed)
    a, weights = codes(rng, rows, k)
    steps, lows, bias = floats(rng.uniform(0, 0.1, rows)), floats(rng.normal(size=rows)), rng.normal(size=PANEL)
    activation = data.draw(st.sampled_from([NONE, GELU, RELU]))
    some = data.draw(st.lists(st.integers(0, rows - 1), min_size=1, max_size=30))

    def run(of):
        scales = {"steps": steps[of], "lows": lows[of]}
        return product(kernels, a[of], weights, **scales, scale=0.01, bias=bias, activation=activation)

    np.testing.assert_array_equal(run(some), run(range(rows))[some])


ROWS_OF_FLOATS = {
    "normal": lambda rng, n: rng.normal(size=n),
    "positive": lambda rng, n: rng.uniform(1, 2, n),
    "constant": lambda _, n: np.full(n, 0.7),
    "zero": lambda _, n: np.zeros(n),
    "huge": lambda rng, n: rng.normal(size=n) * 1e36,
    "tiny": lambda rng, n: rng.normal(size=n) * 1e-30,
    "subnormal": lambda rng, n: rng.normal(size=n) * 1e-41,
    "one peak": lambda rng, n: np.where(np.arange(n) == n // 2, 1e6, rng.normal(size=n)),
    "halves": lambda rng, n: np.r_[0, 255, rng.integers(0, 255, n - 2) + 0.5],
}


@every_set
@pytest.mark.parametrize("width", [64, 128, 384, 1536, 8192])
@pytest.mark.parametrize("kind", ROWS_OF_FLOATS)
def test_quantize_bit_for_bit(kernels, width, kind):
    x = floats(ROWS_OF_FLOATS[kind](random(width), width))
    q, step, low = testing.quantize(kernels, x)
    span = x.max() - x.min()
    assert (np.float32(step), np.float32(low)) == (span / np.float32(255), x.min())
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        inverse = np.float32(255) / span if span > 0 else np.float32(0)
        expected = np.fmin(np.rint((x - x.min()) * inverse), np.float32(255))
    np.testing.assert_array_equal(q, expected.astype(np.uint8))
    assert (
        np.all(np.abs(low + step * q.astype(float) - x) <= 0.5001 * step + 3e-7 * np.abs(x).max())
        or kind == "subnormal"
    )


@given(seeds, st.integers(1, 8), magnitudes)
@settings(max_examples=60, deadline=None)
def test_rounding_has_the_same_bits(seed, panels, magnitude):
    rng = random(seed)
    x = floats(rng.normal(size=panels * PANEL) * magnitude) * rng.choice([0, -0.0, 1], panels * PANEL)
    q, step, low = assert_same_bits(lambda kernels: testing.quantize(kernels, floats(x)))
    rest = assert_same_bits(lambda kernels: testing.remainder(kernels, floats(x), q, step, low))[0]
    assert np.all(np.abs(rest) <= 0.5001 * step + 3e-7 * np.abs(x).max() + 1e-38)


def norm_inputs(rng, size, width, magnitude=1.0, shift=0.0):
    def padded(values):
        return floats(np.pad(values, (0, width - size)))

    y, x = padded(rng.normal(size=size) * magnitude + shift), padded(rng.normal(size=size) * magnitude)
    return y, x, padded(rng.uniform(0.5, 2, size)), padded(rng.normal(size=size)), padded(rng.uniform(0.1, 3, size))


def add_norm(kernels, *inputs):
    """The norm, and what becomes of it in 8 bits."""
    out, normed = testing.add_norm(kernels, *inputs)
    return out, *testing.quantize(kernels, normed)


@every_set
@pytest.mark.parametrize(
    ("size", "width"),
    [(64, 64), (384, 384), (768, 768), (8192, 8192), (1, 64), (63, 64), (65, 128), (100, 128), (312, 320), (129, 192)],
)
@pytest.mark.parametrize(("magnitude", "shift"), [(1, 0), (0.01, 100), (1e12, 0), (1e-4, 0), (1, -30)])
def test_add_norm(kernels, size, width, magnitude, shift):
    y, x, gamma, beta, smooth = norm_inputs(random(size), size, width, magnitude, shift)
    out, q, step, low = add_norm(kernels, y, x, size, gamma, beta, smooth, 1e-12)

    total = (x + y)[:size].astype(float)
    factor = 1 / np.sqrt(total.var() + 1e-12)
    unit = (total - total.mean()) * factor
    lost = 2e-6 + 2e-6 * np.abs(unit) + 2.0**-22 * np.abs(total).max() * factor  # what a mean in 32 bits may cost
    lost = lost * (1 + np.abs(gamma[:size]))
    assert np.all(np.abs(out[:size] - (unit * gamma[:size] + beta[:size])) <= lost)
    assert not out[size:].any()
    rounded = low + step * q.astype(float)
    assert np.all(np.abs(rounded[:size] - out[:size] * smooth[:size]) <= 0.501 * step + lost * 3)
    assert np.all(np.abs(rounded[size:]) <= 0.501 * step)
    _, plain, plain_step, plain_low = add_norm("reference", y, x, size, gamma, beta, smooth, 1e-12)
    assert np.abs(q.astype(int) - plain).max() <= 1 + 9 * lost.max() / max(step, 1e-9)
    assert abs(step - plain_step) <= 3 * lost.max()
    assert abs(low - plain_low) <= 9 * lost.max()


@every_set
@pytest.mark.parametrize(("size", "width"), [(64, 64), (40, 64), (100, 128), (320, 384)])
@pytest.mark.parametrize("value", [0, 1, -1000, 4096])
def test_add_norm_of_a_constant_row_is_beta(kernels, size, width, value):
    y, _, gamma, beta, smooth = norm_inputs(random(), size, width)
    y[:] = 0
    x = floats(np.pad(np.full(size, value), (0, width - size)))
    out, q, step, low = add_norm(kernels, y, x, size, gamma, beta, smooth, 1e-12)
    np.testing.assert_array_equal(out, beta)
    for ours, plain in zip((q, step, low), testing.quantize(kernels, beta * smooth), strict=True):
        np.testing.assert_array_equal(ours, plain)


@every_set
def test_add_norm_rounds_between_the_smallest_and_the_largest(kernels):
    # All of one sign: 0 is not of the range.
    y, x, gamma, beta, smooth = norm_inputs(random(), 64, 64)
    out = add_norm(kernels, y, x, 64, gamma, beta, smooth, 1e-12)[0]
    _, q, _, low = add_norm(kernels, y, x, 64, gamma, beta, floats(1 / out), 1e-12)
    assert low == pytest.approx(1, abs=1e-5)
    assert q.max() <= 255


@every_set
@pytest.mark.parametrize(("size", "width"), [(64, 64), (40, 64), (320, 384), (1024, 1024)])
def test_rms_norm(kernels, size, width):
    y, x, gamma, beta, smooth = norm_inputs(random(size), size, width, shift=3)
    out, normed = testing.add_norm(kernels, y, x, size, gamma, beta, smooth, 1e-6, rms=True)
    total = (x + y)[:size].astype(float)
    wanted = total / np.sqrt((total**2).mean() + 1e-6) * gamma[:size] + beta[:size]
    np.testing.assert_allclose(out[:size], wanted, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(normed, out * smooth)
    assert not out[size:].any()


@every_set
@pytest.mark.parametrize(
    ("heads", "size", "dim"), [(1, 16, 16), (3, 64, 64), (2, 40, 48), (1, 128, 128), (3, 256, 256)]
)
def test_norms_of_heads(kernels, heads, size, dim):
    rng = random(dim)
    x, gamma = rng.normal(size=(heads, dim)) * 5, rng.normal(size=dim)
    x[:, size:] = gamma[size:] = 0
    out = testing.norm_heads(kernels, floats(x.ravel()), floats(gamma), size, 1e-6).reshape(heads, dim)
    wanted = x / np.sqrt((x[:, :size] ** 2).mean(1, keepdims=True) + 1e-6) * gamma
    np.testing.assert_allclose(out, wanted, rtol=1e-5, atol=1e-6)
    assert_same_bits(lambda each: testing.norm_heads(each, floats(x.ravel()), floats(gamma), size, 1e-6))


@given(seeds, st.integers(1, 400), st.integers(0, 2), st.booleans(), st.booleans(), st.booleans(), magnitudes)
@settings(max_examples=60, deadline=None)
def test_norms_have_the_same_bits(seed, size, panels, alone, keeps, rms, magnitude):
    width = (size + PANEL - 1) // PANEL * PANEL + panels * PANEL
    branch, x, gamma, beta, smooth = norm_inputs(random(seed), size, width, magnitude)
    branch = None if alone else branch
    inputs = (branch, x, size, gamma, beta, smooth, 1e-12)
    out, normed = assert_same_bits(lambda kernels: testing.add_norm(kernels, *inputs, keeps=keeps, rms=rms))
    total = x if alone else x + branch
    if keeps:
        np.testing.assert_array_equal(out, total)
    norm, same = testing.add_norm("reference", *inputs, rms=rms)
    np.testing.assert_array_equal(normed, norm * smooth)
    np.testing.assert_array_equal(normed, same)


@every_set
@pytest.mark.parametrize(("heads", "dim"), [(1, 32), (3, 64), (2, 96), (1, 128)])
def test_rotary_positions(kernels, heads, dim):
    rng = random(dim)
    x, angles = rng.normal(size=(heads, dim)), rng.uniform(-np.pi, np.pi, dim // 2)
    rotation = floats(np.r_[np.cos(angles), np.sin(angles)])
    pairs = (x[:, : dim // 2] + 1j * x[:, dim // 2 :]) * np.exp(1j * angles)
    out = testing.rotate(kernels, floats(x.ravel()), rotation)
    np.testing.assert_allclose(out.reshape(heads, dim), np.c_[pairs.real, pairs.imag], atol=1e-6)
    assert_same_bits(lambda each: testing.rotate(each, floats(x.ravel()), rotation))


@every_set
@pytest.mark.parametrize(("rows", "inputs"), [(1, 64), (2, 192), (3, 64), (7, 320), (60, 768), (97, 64), (200, 128)])
def test_fp32(kernels, rows, inputs):
    rng = random(rows)
    x, weights, bias = (floats(rng.normal(size=shape)) for shape in ((rows, inputs), (inputs, PANEL), (1, PANEL)))
    x[:, ::7] *= 100
    out = testing.linear_fp32(kernels, x, weights, bias, NONE)
    terms = np.abs(x).astype(float) @ np.abs(weights) + np.abs(bias)
    assert np.all(np.abs(out - (x.astype(float) @ weights + bias)) <= inputs**0.5 * 2.0**-23 * terms)
    alone = testing.linear_fp32(kernels, x[rows // 2 :][:1].copy(), weights, bias, NONE)
    np.testing.assert_array_equal(alone[0], out[rows // 2])


@given(
    seeds, st.integers(1, 30), st.sampled_from([64, 128, 320]), st.sampled_from(ACTIVATIONS), st.booleans(), magnitudes
)
@settings(max_examples=60, deadline=None)
def test_products_have_the_same_bits(seed, rows, inputs, activation, gated, magnitude):
    rng = random(seed)
    gate = floats(rng.normal(size=(rows, PANEL))) if gated else None
    addend = floats(rng.normal(size=(rng.choice([1, rows]), PANEL)))
    x, weights = floats(rng.normal(size=(rows, inputs)) * magnitude), floats(rng.normal(size=(inputs, PANEL)))
    x[rng.random(x.shape) < 0.2] = 0
    assert_same_bits(lambda kernels: testing.linear_fp32(kernels, x, weights, addend, activation, gate=gate))
    a, whole = codes(rng, rows, inputs)
    steps, lows = floats(rng.uniform(0, magnitude, rows)), floats(rng.normal(size=rows) * magnitude)
    scales = {
        "steps": steps,
        "lows": lows,
        "scale": floats(rng.uniform(1e-4, 1e-3, PANEL)),
        "bias": addend,
        "group": int(rng.choice([64, 128, 384])),
    }
    assert_same_bits(lambda kernels: product(kernels, a, whole, **scales, activation=activation, gate=gate))


@every_set
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations(kernels, activation):
    x = floats(np.r_[np.linspace(-130, 130, 64 * 100), np.linspace(-3, 3, 64 * 100)]).reshape(-1, PANEL)
    zeros = floats(np.zeros((len(x), PANEL))), floats(np.zeros((PANEL, PANEL)))
    out = testing.linear_fp32(kernels, *zeros, x, activation)
    near = 3e-5 if activation == GELU else 6e-7
    assert np.all(np.abs(out - EXACT[activation](x.astype(float))) <= near * (1 + np.abs(x) / 2))
    gate = floats(random().normal(size=x.shape))
    np.testing.assert_array_equal(testing.linear_fp32(kernels, *zeros, x, activation, gate=gate), out * gate)


def test_auto_is_the_best_and_there_is_no_other():
    assert _native.kernels("auto") == SETS[-1]
    assert _native.kernels("neon2") is None


def test_wrong_shapes_are_refused():
    a, weights = codes(random(), 2, 64)
    row = np.zeros(64, np.float32)
    with pytest.raises(ValueError, match="no kernels"):
        product("no such", a, weights)
    with pytest.raises(ValueError, match="a is no"):
        product("reference", a[:, :60].copy(), weights)
    with pytest.raises(ValueError, match="weights are no"):
        product("reference", a, weights[:32])
    with pytest.raises(ValueError, match="activation"):
        product("reference", a, weights, activation=8)
    with pytest.raises(ValueError, match="multiple of 64"):
        testing.quantize("reference", row[:60].copy())
    with pytest.raises(ValueError, match="size is beyond"):
        add_norm("reference", row, row, 65, row, row, row, 0.0)
    with pytest.raises(ValueError, match="as long as x"):
        add_norm("reference", row, row, 64, row, row[:32].copy(), row, 0.0)
    with pytest.raises(ValueError, match=r"no \[inputs, 64\]"):
        testing.linear_fp32("reference", np.zeros((2, 64), np.float32), np.zeros((32, 64), np.float32), row[None], NONE)
    with pytest.raises(ValueError, match="as long as the rotation"):
        testing.rotate("reference", row, row[:48].copy())
