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


def test_without_row_steps_the_budget_is_filled():
    assert [len(b) for b in plan([100] * 25, ShapePolicy(token_budget=1000))] == [10, 10, 5]


@pytest.mark.parametrize("lengths", [[], np.zeros(0, np.int32)])
def test_nothing_gives_no_batch(lengths):
    assert plan(lengths, ShapePolicy(token_budget=10)) == []
