"""What stands in an output."""

from __future__ import annotations

import pytest

from nimbed.bulk.layout import NUMBERS, Layout


@pytest.mark.parametrize(("dtype", "bytes_each"), [("float32", 4), ("float16", 2), ("int8", 1), ("ubinary", 1)])
def test_the_size_of_a_row(dtype, bytes_each):
    layout = Layout(width=48, dtype=dtype)
    assert layout.row_bytes == 48 * bytes_each
    assert layout.numbers.str == NUMBERS[dtype]
