"""How far a network's outputs are from fp32: measured once, on all of the texts or on some."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nimbed._loading.unfinished import Unfinished
from nimbed.quantization.native import measured as module
from nimbed.quantization.native.measured import Measured

pytestmark = pytest.mark.usefixtures("native")
LENGTHS = [10, 20, 30, 40, 50, 60, 70, 80]


@pytest.fixture
def measured(tmp_path):
    rows = np.random.default_rng(0).standard_normal((len(LENGTHS), 4)).astype(np.float32)
    return Measured(
        reference=rows,
        sequences=[np.zeros(length, np.int32) for length in LENGTHS],
        threads=1,
        pieces=Unfinished(folder=tmp_path / "pieces", inputs="these"),
    )


@pytest.fixture
def computed(measured, monkeypatch):
    """The settings that a network was run with; its outputs are the reference, but for one row turned around."""
    calls = []

    def in_memory(arrays, settings, threads):
        calls.append(settings)
        rows = {len(s): row for s, row in zip(measured.sequences, measured.reference, strict=True)}
        return lambda sequences: np.stack([rows[len(s)] * (-1 if len(s) == 20 else 1) for s in sequences])

    monkeypatch.setattr(module, "in_memory", in_memory)
    return calls


def test_an_error_is_measured_once_for_its_settings(measured, computed):
    for settings in ({"words": "int8"}, {"words": "bf16"}, {"words": "int8"}):
        assert measured.error({}, settings) == pytest.approx(2 / 8)
    assert computed == [{"words": "int8"}, {"words": "bf16"}]


@pytest.mark.parametrize(
    ("tokens", "count"), [(1e9, 8), (360, 8), (359, 7), (150, 5), (149, 4), (1, 4)]
)  # four texts are the fewest
@pytest.mark.parametrize("turned", [False, True])
def test_few_tokens_are_the_shortest_texts(tokens, count, turned, measured):
    order = slice(None, None, -1 if turned else 1)
    few = replace(measured, sequences=measured.sequences[order], reference=measured.reference[order]).within(tokens)
    assert [len(sequence) for sequence in few.sequences] == LENGTHS[:count][order]
    np.testing.assert_array_equal(few.reference, measured.reference[:count][order])


def test_errors_on_some_of_the_texts_are_kept_apart(measured, computed):
    few = measured.within(100)
    assert measured.error({}, {}) == pytest.approx(2 / 8)
    assert few.error({}, {}) == pytest.approx(2 / 4)
    assert (measured.error({}, {}), few.error({}, {})) == pytest.approx((2 / 8, 2 / 4))
    assert computed == [{}, {}]
