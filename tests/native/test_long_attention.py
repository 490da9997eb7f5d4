"""Attention over more keys than a block has: against numpy in float64, and the same bits whichever are asked."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.kernels import assert_same_bits, every_set, floats, random, testing

ALL, BLOCK = 1 << 30, 512


def exact(q, k, v, dim, *, first=0, back=ALL, ahead=ALL):
    """``[queries, heads * dim]`` in float64."""
    out = np.zeros(q.shape)
    for row, query in enumerate(q.astype(float)):
        token = first + row
        keys = slice(max(0, token - back), min(len(k), token + ahead + 1))
        if keys.start >= keys.stop:
            continue
        for head in range(0, q.shape[1], dim):
            scores = k[keys].astype(float) @ query[head : head + dim]
            weights = np.exp(scores - scores.max())
            out[row, head : head + dim] = weights @ v[keys] / weights.sum()
    return out


def with_a_sink(rng, keys, queries, dim, score, value=0.02):
    """Keys and values of which the fourth key takes all queries, whose other scores are near 0."""
    k, v = (floats(rng.normal(size=(keys, dim))) for _ in range(2))
    q = floats(rng.normal(size=(queries, dim)) * 0.01)
    towards = rng.normal(size=dim)
    towards /= np.linalg.norm(towards)
    k -= floats(np.outer(k @ towards, towards))
    k[3], v[3] = towards * 10, v[3] * value
    return q + floats(towards * score / 10), k, v


def relative_errors(found, wanted):
    return np.linalg.norm(found - wanted, axis=1) / np.linalg.norm(wanted, axis=1)


@every_set
@pytest.mark.parametrize("fp32", [False, True])
@pytest.mark.parametrize(("keys", "score"), [(8192, np.log(1e5)), (8192, 7.0), (2000, 9.0), (BLOCK + 1, np.log(1e5))])
def test_the_tail_of_a_sink_is_kept(kernels, fp32, keys, score):
    """One weight of 1 and the others of 1e-5: with 8192 keys, 7.6 % of the output."""
    q, k, v = with_a_sink(random(keys), keys, 8, 64, score)
    found = testing.attend(kernels, q, k, v, 64, first_query=keys - 8, fp32=fp32)
    assert relative_errors(found, exact(q, k, v, 64)).max() <= (1e-5 if fp32 else 1e-3)


@pytest.mark.parametrize("fp32", [False, True])
@pytest.mark.parametrize(
    ("keys", "heads", "dim", "back", "ahead"),
    [(BLOCK + 1, 1, 64, ALL, ALL), (1300, 2, 32, ALL, 0), (1100, 1, 128, 64, 64), (1025, 3, 16, 700, 3)],
)
def test_blocks_make_one_softmax(keys, heads, dim, back, ahead, fp32):
    rng = random(keys)
    q = floats(rng.normal(size=(keys, heads * dim)) * dim**-0.5)
    k, v = (floats(rng.normal(size=(keys, dim))) for _ in range(2))
    reach = {"heads": heads, "back": back, "ahead": ahead, "fp32": fp32}
    (found,) = assert_same_bits(lambda kernels: testing.attend(kernels, q, k, v, dim, **reach))
    wanted = exact(q, k, v, dim, back=back, ahead=ahead)
    assert np.linalg.norm(found - wanted) <= (1e-6 if fp32 else 1e-3) * np.linalg.norm(wanted)


@given(
    st.integers(0, 1 << 30), st.integers(BLOCK + 1, 1200), st.integers(1, 40), st.sampled_from([0, 1, 64, 600, ALL]),
    st.sampled_from([0, 5, 64, ALL]), st.booleans(),
)  # fmt: skip
@settings(max_examples=25)
def test_a_querys_result_does_not_depend_on_the_others(seed, keys, queries, back, ahead, fp32):
    rng = random(seed)
    first = int(rng.integers(0, keys - queries))
    q, k, v = (floats(rng.normal(size=(size, 32))) for size in (keys, keys, keys))
    reach = {"back": back, "ahead": ahead, "fp32": fp32}
    whole = testing.attend("auto", q, k, v, 32, **reach)
    part = q[first : first + queries].copy()
    (some,) = assert_same_bits(lambda kernels: testing.attend(kernels, part, k, v, 32, first_query=first, **reach))
    np.testing.assert_array_equal(some, whole[first : first + queries])
