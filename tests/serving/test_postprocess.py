"""How a vector is finished: joined, normalized, cut, and its caller's own."""

from __future__ import annotations

import numpy as np
import pytest

from nimbed._cache.lru import Vectors
from nimbed._serving.postprocess import Postprocess
from nimbed._text.tokenizer import TokenizedTexts

RAW = np.array([[3, 4], [0, 2], [6, 8]], np.float32)


def tokens_of(owners: list[int], weights: list[float], texts: int) -> TokenizedTexts:
    return TokenizedTexts(
        sequences=[np.ones(1, np.int32)] * len(owners),
        owners=np.array(owners, np.int32),
        weights=np.array(weights, np.float32),
        texts=texts,
        cut=np.zeros(texts, np.int32),
    )


@pytest.mark.parametrize(
    ("normalize", "engine_normalizes", "expected"),
    [(True, True, RAW), (True, False, [[0.6, 0.8], [0, 1], [0.6, 0.8]]), (False, False, RAW)],
)
def test_the_engines_vectors_are_normalized_where_it_has_not_done_that(normalize, engine_normalizes, expected):
    finish = Postprocess(dim=2, normalize=normalize, engine_normalizes=engine_normalizes)
    rows, cut = finish.full(RAW, tokens_of([0, 1, 2], [1, 1, 1], 3))
    np.testing.assert_allclose(rows, expected)
    assert cut.tolist() == [0, 0, 0]


@pytest.mark.parametrize(("normalize", "expected"), [(True, [[0, 1], [0.6, 0.8]]), (False, [[0, 0.5], [6, 8]])])
def test_joined_windows_are_normalized_again(normalize, expected):
    raw = np.array([[1, 0], [-1, 1], [6, 8]], np.float32)
    finish = Postprocess(dim=2, normalize=normalize, engine_normalizes=normalize)
    rows, _ = finish.full(raw, tokens_of([0, 0, 1], [0.5, 0.5, 1], 2))
    np.testing.assert_allclose(rows, expected)


@pytest.mark.parametrize("dim", [1, 2])
@pytest.mark.parametrize("normalize", [True, False])
def test_a_caller_gets_dim_components_of_its_own(dim, normalize):
    full = Vectors(RAW.copy(), np.array([0, 7, 0], np.int32))
    rows, cut = Postprocess(dim=dim, normalize=normalize, engine_normalizes=True).for_caller(full, shared=True)
    expected = RAW if dim == 2 else [[1], [0], [1]] if normalize else RAW[:, :1]
    np.testing.assert_array_equal(rows, expected)
    assert cut.tolist() == [0, 7, 0]
    rows[:] = 9
    np.testing.assert_array_equal(full.rows, RAW)


def test_what_nobody_else_reads_is_not_copied():
    full = Vectors(RAW.copy(), np.zeros(3, np.int32))
    assert Postprocess(dim=2, normalize=True, engine_normalizes=True).for_caller(full, shared=False).rows is full.rows


@pytest.mark.parametrize("normalize", [True, False])
def test_a_cut_vector_may_lose_its_mean_first(normalize):
    """As layer norm without weights does it, up to a factor above 0; what is not cut stays."""
    torch = pytest.importorskip("torch")
    rows = np.random.default_rng(0).normal(0.3, 1, (5, 64)).astype(np.float32)
    finish = Postprocess(dim=16, normalize=normalize, engine_normalizes=False, center=True)
    made, _ = finish.for_caller(Vectors(rows, np.zeros(5, np.int32)), shared=True)
    expected = torch.nn.functional.layer_norm(torch.from_numpy(rows), (64,))[:, :16].numpy()
    if normalize:
        expected = expected / np.linalg.norm(expected, axis=1, keepdims=True)
    else:
        expected = expected * np.sqrt(rows.var(axis=1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(made, expected, atol=2e-6)
    alone, _ = finish.for_caller(Vectors(rows[3:4], np.zeros(1, np.int32)), shared=True)
    np.testing.assert_array_equal(alone[0], made[3])
    whole = Postprocess(dim=64, normalize=normalize, engine_normalizes=False, center=True)
    np.testing.assert_array_equal(whole.for_caller(Vectors(rows, np.zeros(5, np.int32)), shared=True)[0], rows)
