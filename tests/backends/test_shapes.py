"""Which batch shapes an engine is given: nothing is cut, the budget holds, and buckets cost little padding."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nimbed.backends.shapes import ShapePolicy, Tuning

ragged = st.builds(ShapePolicy, token_budget=st.integers(1, 3000))
bucketed = st.builds(ShapePolicy.bucketed, max_length=st.integers(1, 600), token_budget=st.integers(1, 3000))
policies = ragged | bucketed
relaxed = settings(deadline=None, max_examples=200)


@given(max_length=st.integers(1, 9000), budget=st.integers(1, 9000), room=st.none() | st.integers(0, 40))
@relaxed
def test_bucket_lengths_ascend_to_the_maximum_in_full_vectors(max_length, budget, room):
    positions = None if room is None else max_length + room
    shapes = ShapePolicy.bucketed(max_length=max_length, token_budget=budget, positions=positions)
    assert list(shapes.lengths) == sorted(set(shapes.lengths))
    assert max_length <= shapes.lengths[-1] < max_length + 16
    assert positions is None or shapes.lengths[-1] <= positions
    assert all(length % 16 == 0 for length in shapes.lengths if length != positions)
    assert shapes.token_budget >= max_length


@given(max_length=st.integers(64, 8192), data=st.data())
@relaxed
def test_a_bucket_is_the_next_longer_one_and_at_most_a_fifth_of_it_is_padding(max_length, data):
    shapes = ShapePolicy.bucketed(max_length=max_length, token_budget=2048)
    tokens = data.draw(st.integers(64, max_length))
    length = shapes.pad_to(tokens, rows=2)
    assert length == min(b for b in shapes.lengths if b >= tokens)
    assert shapes.pad_to(tokens) == max(length, shapes.least_alone)
    assert (length - tokens) / length <= 0.2


@given(tokens=st.integers(0, 5000), shapes=policies)
@relaxed
def test_pad_to_never_cuts_and_settles_at_once(tokens, shapes):
    length = shapes.pad_to(tokens)
    assert length >= max(tokens, 1)
    assert shapes.pad_to(length) == length


@given(available=st.integers(1, 500), length=st.integers(1, 800), shapes=policies)
@relaxed
def test_rows_take_some_but_not_more_than_there_are(available, length, shapes):
    rows = shapes.rows(available, length)
    assert 1 <= rows <= available
    assert rows == 1 or rows * length <= shapes.token_budget


@pytest.mark.parametrize(("available", "rows"), [(1, 1), (3, 1), (4, 4), (15, 4), (16, 16), (31, 16), (40, 32)])
def test_rows_are_powers_of_four_or_the_most_that_the_budget_holds(available, rows):
    assert ShapePolicy(token_budget=32 * 10, row_step=4).rows(available, 10) == rows


def test_a_row_alone_is_padded_to_a_length_of_its_own():
    shapes = ShapePolicy.bucketed(max_length=512, token_budget=2048)
    assert (shapes.pad_to(3), shapes.pad_to(3, rows=2)) == (32, 16)
    assert ShapePolicy.bucketed(max_length=8, token_budget=8).pad_to(3) == 16


def test_a_machine_that_nobody_measured_has_defaults():
    assert Tuning() == Tuning(tokens_per_thread=512, least_alone=32)
