"""Batches: each text exactly once, within the budget, with little padding."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nimbed._serving.plan import plan
from nimbed.backends.shapes import ShapePolicy

relaxed = settings(deadline=None, max_examples=200)

ragged = st.builds(ShapePolicy, token_budget=st.integers(1, 3000))
bucketed = st.builds(ShapePolicy.bucketed, max_length=st.integers(1, 600), token_budget=st.integers(1, 3000))
policies = ragged | bucketed
lengths_of_texts = st.lists(st.integers(0, 700), max_size=150)


def padded(batch, lengths, shapes):
    """The length that an engine pads a batch's rows to."""
    return shapes.pad_to(max(lengths[i] for i in batch), rows=len(batch))


def padded_tokens(batches, lengths, shapes):
    return sum(len(batch) * padded(batch, lengths, shapes) for batch in batches)


@given(lengths=lengths_of_texts, shapes=policies)
@relaxed
def test_every_text_exactly_once(lengths, shapes):
    planned = [int(i) for batch in plan(lengths, shapes) for i in batch]
    assert sorted(planned) == list(range(len(lengths)))


@given(lengths=lengths_of_texts, shapes=policies)
@relaxed
def test_no_batch_over_the_budget_unless_one_text_alone_is(lengths, shapes):
    for batch in plan(lengths, shapes):
        assert len(batch) == 1 or padded_tokens([batch], lengths, shapes) <= shapes.token_budget


@given(lengths=lengths_of_texts, shapes=policies)
@relaxed
def test_longest_first_and_equal_lengths_keep_their_order(lengths, shapes):
    order = [int(i) for batch in plan(lengths, shapes) for i in batch]
    assert order == sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))


@given(lengths=lengths_of_texts, shapes=bucketed)
@relaxed
def test_an_engine_that_compiles_sees_few_shapes(lengths, shapes):
    for batch in plan(lengths, shapes):
        length = padded(batch, lengths, shapes)
        most = 2 ** int(math.log2(max(1, shapes.token_budget // length)))
        allowed = {4**n for n in range(12) if 4**n < most} | {most}
        assert len(batch) in allowed
        assert length in shapes.lengths or length > shapes.lengths[-1]


@given(lengths=st.lists(st.integers(1, 512), min_size=1, max_size=300), budget=st.integers(512, 4096))
@relaxed
def test_waste_does_not_grow_with_the_number_of_texts(lengths, budget):
    # Sorted, a full batch wastes at most budget * (1 - shortest / longest) <= budget * ln(longest / shortest),
    # and what one batch spans the next one does not: the sum telescopes.
    shapes = ShapePolicy.bucketed(max_length=512, token_budget=budget)
    least = [shapes.pad_to(n, rows=2) for n in lengths]
    wasted = padded_tokens(plan(lengths, shapes), lengths, shapes) - sum(least)
    # A row alone is padded further, and of those there are at most three, behind batches of 1, 4, 16, ... rows.
    assert 0 <= wasted <= budget * math.log(max(least) / min(least)) + 3 * shapes.least_alone


@given(lengths=st.lists(st.integers(1, 512), min_size=1, max_size=300))
@relaxed
def test_equal_lengths_waste_nothing(lengths):
    length = lengths[0]
    equal, shapes = [length] * len(lengths), ShapePolicy(token_budget=2048)
    assert padded_tokens(plan(equal, shapes), equal, shapes) == sum(equal)


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


def test_without_row_steps_the_budget_is_filled():
    assert [len(b) for b in plan([100] * 25, ShapePolicy(token_budget=1000))] == [10, 10, 5]


@pytest.mark.parametrize("lengths", [[], np.zeros(0, np.int32)])
def test_nothing_gives_no_batch(lengths):
    assert plan(lengths, ShapePolicy(token_budget=10)) == []
