"""Vectors agree where rounding alone can explain their distance."""

from __future__ import annotations

import numpy as np
import pytest

from nimbed.bench.agreement import MIN_MEAN, MIN_WORST, Agreement, agreement, why_refused


def test_agreement_of_matrices():
    same = np.eye(3, dtype=np.float32)
    assert agreement(same, same * 2).held
    assert not agreement(same, same[:, ::-1]).held
    assert not agreement(same, same[:2]).held


def test_one_bad_row_is_seen_in_the_worst_and_the_mean():
    reference = np.eye(4, dtype=np.float32)
    vectors = reference.copy()
    vectors[2] = [0, 0, 3, 4]
    found = agreement(vectors, reference)
    assert (found.worst, found.mean) == (pytest.approx(0.6), pytest.approx(0.9))
    assert agreement(-reference, reference).worst == -1


def test_a_row_of_zeros_agrees_with_nothing():
    reference = np.ones((1, 3), np.float32)
    assert agreement(np.zeros_like(reference), reference) == Agreement(worst=0.0, mean=0.0)


@pytest.mark.parametrize(
    ("worst", "mean", "held"),
    [(MIN_WORST, MIN_MEAN, True), (MIN_WORST - 1e-6, 1.0, False), (MIN_MEAN, MIN_MEAN - 1e-6, False)],
)
def test_both_bounds_must_hold(worst, mean, held):
    assert Agreement(worst=worst, mean=mean).held is held


def test_the_reason_says_what_was_found_and_what_is_wanted():
    assert why_refused(Agreement(worst=0.51239, mean=0.98765)) == (
        "its vectors do not agree with the reference's: cosine 0.9877 on average and 0.5124 at worst "
        "(at least 0.99 and 0.97 are wanted)"
    )
