"""Attention, by every set of kernels: against numpy in float64, and bit for bit as the plain one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.support.kernels import assert_same_bits, every_set, floats, random, testing

ALL = 1 << 30

# What rounding costs attention: of the largest value, and of a mean with random weights (as a part of its norm).
INT16 = (2**-12, 1e-3)


def softmax_in_full(q, k, v, dim):
    """The exact result, and how far from it is possible."""
    q, k, v = (part[:, :dim].astype(float) for part in (q, k, v))
    scores = q @ k.T
    weights = np.exp(scores - scores.max(1, keepdims=True))
    largest, _ = INT16
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
    exact, near = softmax_in_full(q, k, v, dim)
    off = np.abs(testing.attend(kernels, q, k, v, dim) - exact)
    assert np.all(off <= near)
    assert np.linalg.norm(off) <= INT16[1] * np.linalg.norm(exact)


@every_set
@pytest.mark.parametrize("length", LENGTHS)
def test_distances_are_added_to_scores(kernels, length):
    rng, dim = random(length), 32
    q, k, v = (floats(rng.normal(size=(length, dim))) for _ in range(3))
    q *= np.float32(dim**-0.5)
    distances = floats(3 * rng.normal(size=2 * length + 15))
    distances[0] = distances[2 * length :] = np.nan  # beyond all keys
    table = floats(distances[None])
    scores = q.astype(float) @ k.astype(float).T
    scores += distances[np.arange(length) - np.arange(length)[:, None] + length]
    weights = np.exp(scores - scores.max(1, keepdims=True))
    exact = weights / weights.sum(1, keepdims=True) @ v
    off = np.abs(testing.attend(kernels, q, k, v, dim, table, zero=length) - exact)
    assert np.linalg.norm(off) <= INT16[1] * np.linalg.norm(exact)


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
    aside = INT16[0] * np.abs(v).max()
    assert np.all(out <= v.max(0) + aside)
    assert np.all(out >= v.min(0) - aside)
    exact, near = softmax_in_full(q, k, v, dim)
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
    assert np.all(np.abs(out - v.mean(0, dtype=float)) <= INT16[0] * np.abs(v).max())


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


@every_set
@given(seed=st.integers(0, 2**32), length=st.integers(1, 80), dim=st.sampled_from([16, 32, 48]), fp32=st.booleans())
@example(seed=0, length=67, dim=32, fp32=False)
@settings(max_examples=40, deadline=None)
def test_a_query_does_not_depend_on_those_beside_it(kernels, seed, length, dim, fp32):
    rng = random(seed)
    q, k, v = (floats(rng.normal(size=(length, dim))) for _ in range(3))
    order = rng.integers(0, length, length)
    shuffled = testing.attend(kernels, q[order], k, v, dim, fp32=fp32)
    np.testing.assert_array_equal(shuffled, testing.attend(kernels, q, k, v, dim, fp32=fp32)[order])


@pytest.mark.parametrize("length", [1, 16, 67])
@pytest.mark.parametrize("dim", [16, 64])
@every_set
def test_fp32(kernels, length, dim):
    rng = random(length + dim)
    q, k, v = (floats(rng.normal(size=(length, dim))) for _ in range(3))
    q *= np.float32(dim**-0.5)
    exact, _ = softmax_in_full(q, k, v, dim)
    np.testing.assert_allclose(testing.attend(kernels, q, k, v, dim, fp32=True), exact, rtol=0, atol=4e-6)


class Case:
    """Heads, keys, windows and distances as they come, and what attention must give in float64."""

    def __init__(self, seed, magnitude=1.0):
        rng = random(seed)
        self.queries, self.keys = (int(n) for n in rng.integers(1, 90, 2))
        self.heads, self.dim = int(rng.integers(1, 4)), int(rng.choice([16, 32, 48]))
        self.back, self.ahead = (int(n) for n in rng.choice([0, 1, 5, 20, 40, ALL], 2))
        self.first = int(rng.choice([0, 3, 16, 41]))
        self.q = floats(rng.normal(size=(self.queries, self.heads * self.dim)) * magnitude * self.dim**-0.5)
        self.k, self.v = (floats(rng.normal(size=(self.keys, self.dim)) * magnitude) for _ in range(2))
        self.zero = self.first + self.queries
        size = (self.heads, self.zero + self.keys + 15)
        self.distances = floats(rng.normal(size=size)) if rng.random() < 0.5 else None

    def __repr__(self):
        window = f"back={self.back} ahead={self.ahead} first={self.first}"
        return f"queries={self.queries} keys={self.keys} heads={self.heads} dim={self.dim} {window}"

    def run(self, kernels, fp32, rows=slice(None)):
        first = self.first + range(self.queries)[rows].start
        return testing.attend(
            kernels, floats(self.q[rows]), self.k, self.v, self.dim, self.distances, heads=self.heads,
            first_query=first, back=self.back, ahead=self.ahead, zero=self.zero, fp32=fp32,
        )  # fmt: skip

    def exact(self):
        between = np.arange(self.keys) - (self.first + np.arange(self.queries))[:, None]
        seen = (between >= -self.back) & (between <= self.ahead)
        q = self.q.reshape(self.queries, self.heads, self.dim).swapaxes(0, 1).astype(float)
        scores = q @ self.k.T
        if self.distances is not None:
            scores = scores + self.distances[:, self.zero + between]
        scores = np.where(seen, scores, -1e9)
        weights = seen * np.exp(scores - scores.max(-1, keepdims=True))
        total = weights.sum(-1, keepdims=True)
        return (weights / np.where(total, total, 1) @ self.v).swapaxes(0, 1).reshape(self.queries, -1)


# Each of them has many shapes, so that few are enough.
cases = given(seed=st.integers(0, 2**32), fp32=st.booleans())


@every_set
@cases
@settings(max_examples=60, deadline=None)
def test_windows_and_heads(kernels, seed, fp32):
    case = Case(seed)
    exact, near = case.exact(), 1e-5 if fp32 else 2e-3
    off = np.abs(case.run(kernels, fp32) - exact)
    assert np.all(off <= near * (1 + np.abs(case.v).max())), case


@cases
@settings(max_examples=150, deadline=None)
@example(seed=0, fp32=True)
@example(seed=201, fp32=True)  # -0 where products underflow
def test_the_same_bits(seed, fp32):
    case = Case(seed, magnitude=random(seed).choice([0, 1e-40, 1e-20, 1, 5, 1e5]))
    assert_same_bits(lambda kernels: case.run(kernels, fp32))


@every_set
@cases
@settings(max_examples=60, deadline=None)
def test_some_rows_are_as_among_all(kernels, seed, fp32):
    case = Case(seed)
    begin = seed % case.queries
    some = slice(begin, begin + 1 + seed // 7 % (case.queries - begin))
    whole = case.run(kernels, fp32)[some]
    np.testing.assert_array_equal(case.run(kernels, fp32, some).view(np.uint32), whole.view(np.uint32))


@every_set
@pytest.mark.parametrize("fp32", [False, True])
def test_a_query_that_reaches_no_key_gets_zeros(kernels, fp32):
    q, k = floats(random().normal(size=(40, 32))), floats(random(1).normal(size=(10, 32)))
    out = testing.attend(kernels, q, k, k, 32, back=4, fp32=fp32)
    assert not out[14:].any()
    assert out[:14].any(axis=1).all()


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match="multiple of 16"):
        testing.attend("reference", *[np.zeros((2, 32), np.float32)] * 3, 24)
    with pytest.raises(ValueError, match="different shapes"):
        testing.attend("reference", *[np.zeros((2, 32), np.float32)] * 2, np.zeros((3, 32), np.float32), 32)
    with pytest.raises(ValueError, match="distances"):
        testing.attend("reference", *[np.zeros((2, 32), np.float32)] * 3, 32, np.zeros((1, 4), np.float32), zero=2)
