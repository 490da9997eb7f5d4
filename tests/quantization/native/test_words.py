"""The table of words in fewer bytes."""

from __future__ import annotations

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from nimbed.quantization.native.words import in_bf16, in_int8

TABLES = arrays.arrays(np.float32, (3, 64), elements=st.floats(-(2.0**99), 2.0**99, width=32))


@given(TABLES)
@example(np.full((3, 64), 8.5e-44, np.float32))
@example(np.full((3, 64), 2e-43, np.float32))  # 142 of the smallest step there is
def test_int8_is_off_by_half_a_step_at_most(words):
    made = in_int8(words)
    assert made["words"].dtype == np.int8
    scale = made["words.scale"][: len(words), None]
    off = np.abs(made["words"] * scale.astype(np.float64) - words)
    assert (off <= 0.501 * scale).all()
    largest = np.abs(words).max(axis=1)
    assert (np.abs(made["words"]).max(axis=1)[largest > 1e-30] == 127).all()


@given(TABLES)
def test_bf16_is_the_nearest(words):
    import torch

    expected = torch.from_numpy(words.copy()).to(torch.bfloat16).view(torch.uint16).numpy()
    np.testing.assert_array_equal(in_bf16(words)["words"], expected)


def test_a_row_of_zeros_stays():
    made = in_int8(np.zeros((2, 64), np.float32))
    assert not made["words"].any()
    assert (made["words.scale"][:2] == 1).all()
    assert made["words.scale"].shape == (16,)
