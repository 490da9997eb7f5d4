"""Rows of vectors, in numpy."""

from __future__ import annotations

import numpy as np
import pytest

from nimbed._vectors import l2_normalized, row_cosines

VECTORS = np.random.default_rng(0).standard_normal((5, 8)).astype(np.float32)


def test_rows_have_length_one_and_keep_their_direction():
    unit = l2_normalized(VECTORS)
    assert unit.dtype == np.float32
    assert np.linalg.norm(unit, axis=1) == pytest.approx(1, abs=1e-6)
    assert row_cosines(unit, VECTORS) == pytest.approx(1, abs=1e-6)


def test_a_row_of_zeros_stays_and_is_near_nothing():
    vectors = VECTORS.copy()
    vectors[2] = 0
    assert not l2_normalized(vectors)[2].any()
    assert row_cosines(vectors, VECTORS)[2] == 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_cosines_row_by_row_in_the_precision_that_comes(dtype):
    a, b = VECTORS.astype(dtype), VECTORS[::-1].astype(dtype)
    cosines = row_cosines(a, 7 * b)
    assert cosines.dtype == dtype
    assert cosines == pytest.approx([x @ y / np.linalg.norm(x) / np.linalg.norm(y) for x, y in zip(a, b)])  # noqa: B905


def test_a_row_that_is_not_finite_has_no_cosine():
    vectors = VECTORS.copy()
    vectors[0, 0] = np.nan
    assert np.isnan(row_cosines(vectors, VECTORS)[0])


def test_rows_come_to_unit_length_and_rows_of_zeros_stay():
    found = l2_normalized(np.float32([[3, 4], [0, 0], [0, -2]]))
    np.testing.assert_allclose(found, np.float32([[0.6, 0.8], [0, 0], [0, -1]]))
    assert found.dtype == np.float32
