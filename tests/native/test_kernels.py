"""The native engine's kernels, each set by itself: against numpy in float64, and against the plain set."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

_native = pytest.importorskip("nimbed._native", reason="the native engine is not built here")
testing = _native.testing

PANEL = 64
NONE, GELU, RELU = 0, 1, 2
SETS = [name for name in ("reference", "avx2", "avx512_vnni") if _native.kernels(name) is not None]
FAST = SETS[1:]

every_set = pytest.mark.parametrize("kernels", SETS)
every_shape = pytest.mark.parametrize(
    ("rows", "k"), [(rows, k) for rows in (1, 2, 3, 4, 5, 6, 7, 12, 13, 97) for k in (64, 128, 384, 1536)]
)


def random(seed=0):
    return np.random.default_rng(seed)


def floats(values):
    return np.ascontiguousarray(values, np.float32)


def packed(weights):
    """[k, 64] as the kernels read it: [k / 4, 64, 4]."""
    return np.ascontiguousarray(weights.astype(np.int8).reshape(-1, 4, PANEL).swapaxes(1, 2))


def product(kernels, a, weights, *, steps=1.0, lows=0.0, scale=1.0, bias=0.0, activation=NONE):
    def whole(value, size):
        return floats(np.broadcast_to(np.float32(value), size))

    rows = len(a)
    sums = whole(scale, PANEL) * weights.sum(0)
    addend = floats(np.broadcast_to(np.float32(bias), (*(np.shape(bias)[:-1] or (1,)), PANEL)))
    parameters = (whole(scale, PANEL), floats(sums), addend)
    return testing.linear(kernels, a, whole(steps, rows), whole(lows, rows), packed(weights), *parameters, activation)


def codes(rng, rows, k):
    return rng.integers(0, 256, (rows, k), np.uint8), rng.integers(-127, 128, (k, PANEL))


def gelu(x):
    return np.vectorize(lambda value: value * 0.5 * math.erfc(-value / math.sqrt(2)))(x)


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
    exact = {NONE: lambda x: x, GELU: gelu, RELU: lambda x: np.maximum(x, 0)}[activation](exact)
    near = 1e-6 * sum(np.abs(term) for term in terms) + (1e-4 if activation == GELU else 0)
    assert np.all(np.abs(out - exact) <= near)


@every_set
@pytest.mark.parametrize("rows", [1, 6, 13])
def test_a_product_in_groups_is_their_sum(kernels, rows):
    rng = random(rows)
    a, weights = codes(rng, rows, 384)
    bias = rng.normal(size=PANEL)
    whole = product(kernels, a, weights, steps=0.01, lows=-1.0, scale=0.001, bias=bias)
    parts = {"steps": 0.01, "lows": -1.0, "scale": 0.001}
    first = product(kernels, np.ascontiguousarray(a[:, :256]), weights[:256], **parts, bias=bias)
    both = product(kernels, np.ascontiguousarray(a[:, 256:]), weights[256:], **parts, bias=first)
    np.testing.assert_allclose(both, whole, rtol=1e-4, atol=1e-4)


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


@pytest.mark.parametrize("kernels", FAST)
@given(st.integers(0, 2**32), st.integers(1, 8), st.floats(2**-60, 2**60))
@settings(max_examples=60, deadline=None)
def test_quantize_as_the_plain_kernels(kernels, seed, panels, magnitude):
    x = floats(random(seed).normal(size=panels * PANEL) * magnitude)
    for ours, plain in zip(testing.quantize(kernels, x), testing.quantize("reference", x), strict=True):
        np.testing.assert_array_equal(ours, plain)


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


# What rounding costs attention: of the largest value, and of a mean with random weights (as a part of its norm).
INT16 = {"avx512_vnni": (2**-12, 1e-3)}
FLOAT32 = (2e-6, 1e-5)


def softmax_in_full(kernels, q, k, v, dim):
    """The exact result, and how far from it is possible."""
    q, k, v = (part[:, :dim].astype(float) for part in (q, k, v))
    scores = q @ k.T
    weights = np.exp(scores - scores.max(1, keepdims=True))
    largest, _ = INT16.get(kernels, FLOAT32)
    of_scores = (np.abs(q) @ np.abs(k).T).max(1, keepdims=True) * max(largest, 2.0**-20)
    lost = largest + np.expm1(np.minimum(of_scores, 1))
    return weights / weights.sum(1, keepdims=True) @ v, np.minimum(lost, 2) * np.abs(v).max()


LENGTHS = [1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 511, 512]


@every_set
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize(("dim", "stride"), [(16, 16), (32, 64), (48, 64), (64, 64), (64, 200), (128, 129)])
def test_attention(kernels, length, dim, stride):
    rng = random(length * dim)
    q, k, v = (floats(rng.normal(size=(length, stride))) for _ in range(3))
    q *= np.float32(dim**-0.5)
    for part in (q, k, v):
        part[:, dim:] = np.nan  # another head's: not to be touched
    exact, near = softmax_in_full(kernels, q, k, v, dim)
    off = np.abs(testing.attend(kernels, q, k, v, dim) - exact)
    assert np.all(off <= near)
    assert np.linalg.norm(off) <= INT16.get(kernels, FLOAT32)[1] * np.linalg.norm(exact)


@every_set
@pytest.mark.parametrize("length", LENGTHS)
def test_distances_are_added_to_scores(kernels, length):
    rng, dim = random(length), 32
    q, k, v = (floats(rng.normal(size=(length, dim))) for _ in range(3))
    q *= np.float32(dim**-0.5)
    distances = floats(3 * rng.normal(size=2 * length + 15))
    distances[0] = distances[2 * length :] = np.nan  # beyond all keys
    scores = q.astype(float) @ k.astype(float).T
    scores += distances[np.arange(length) - np.arange(length)[:, None] + length]
    weights = np.exp(scores - scores.max(1, keepdims=True))
    exact = weights / weights.sum(1, keepdims=True) @ v
    off = np.abs(testing.attend(kernels, q, k, v, dim, distances) - exact)
    assert np.linalg.norm(off) <= INT16.get(kernels, FLOAT32)[1] * np.linalg.norm(exact)


@every_set
@pytest.mark.parametrize("length", [1, 5, 16, 17, 100])
@pytest.mark.parametrize("size", [1e-20, 10, 1e3, 1e8, 1e15])
def test_attention_of_scores_beyond_exp(kernels, length, size):
    dim = 32
    rng = random(length)
    q, k, v = (floats(rng.normal(size=(length, dim))) for _ in range(3))
    q *= np.float32(size)
    out = testing.attend(kernels, q, k, v, dim)
    assert np.isfinite(out).all()
    # A mean with weights that sum to 1 stays among what it is the mean of.
    aside = INT16.get(kernels, FLOAT32)[0] * np.abs(v).max()
    assert np.all(out <= v.max(0) + aside)
    assert np.all(out >= v.min(0) - aside)
    exact, near = softmax_in_full(kernels, q, k, v, dim)
    assert np.all(np.abs(out - exact) <= near)


@every_set
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("length", LENGTHS)
def test_attention_to_equal_keys_is_the_mean(kernels, length, sign):
    rng = random(length)
    key = rng.normal(size=32)
    q = floats(np.abs(rng.normal(size=(length, 32))) * np.sign(key) * sign * 1e3)
    v = floats(rng.normal(size=(length, 32)))
    out = testing.attend(kernels, q, floats(np.tile(key, (length, 1))), v, 32)
    assert np.all(np.abs(out - v.mean(0, dtype=float)) <= INT16.get(kernels, FLOAT32)[0] * np.abs(v).max())


@every_set
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    ("length", "dim"), [*[(n, dim) for n in (1, 2, 12, 257) for dim in (16, 32, 48, 64, 128, 240)], (2048, 16)]
)
def test_no_sum_overflows(kernels, length, dim, sign):
    # Every number is the largest there is, and all keys weigh the same.
    k = v = np.full((length, dim), 3.7, np.float32)
    out = testing.attend(kernels, np.float32(sign) * k, k, v, dim)
    np.testing.assert_allclose(out, v, rtol=2**-12)


@pytest.mark.parametrize("kernels", FAST)
@given(seed=st.integers(0, 2**32), length=st.integers(1, 80), dim=st.sampled_from([16, 32, 48]))
@example(seed=0, length=67, dim=32)
@settings(max_examples=40, deadline=None)
def test_a_query_does_not_depend_on_those_beside_it(kernels, seed, length, dim):
    rng = random(seed)
    q, k, v = (floats(rng.normal(size=(length, dim))) for _ in range(3))
    order = rng.integers(0, length, length)
    np.testing.assert_array_equal(
        testing.attend(kernels, q[order], k, v, dim), testing.attend(kernels, q, k, v, dim)[order]
    )


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
        product("reference", a, weights, activation=3)
    with pytest.raises(ValueError, match="multiple of 64"):
        testing.quantize("reference", row[:60].copy())
    with pytest.raises(ValueError, match="size is beyond"):
        add_norm("reference", row, row, 65, row, row, row, 0.0)
    with pytest.raises(ValueError, match="as long as x"):
        add_norm("reference", row, row, 64, row, row[:32].copy(), row, 0.0)
    with pytest.raises(ValueError, match="multiple of 16"):
        testing.attend("reference", *[np.zeros((2, 32), np.float32)] * 3, 24)
    with pytest.raises(ValueError, match="different shapes"):
        testing.attend("reference", *[np.zeros((2, 32), np.float32)] * 2, np.zeros((3, 32), np.float32), 32)
