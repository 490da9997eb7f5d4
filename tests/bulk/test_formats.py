"""What all formats of an output have in common."""

from __future__ import annotations

import numpy as np
import pytest

from nimbed.bulk.formats import FORMATS, format_of
from nimbed.bulk.layout import NUMBERS, Block, Layout
from nimbed.errors import InputError

DENSE = FORMATS["dense"]


def rows(count, layout):
    values = np.random.default_rng(0).integers(-9, 9, (count, layout.width)).astype(NUMBERS[layout.dtype])
    return [f"r{n}" for n in range(count)] if layout.own_ids else list(range(count)), values


def write(form, path, layout, step, count=5000):
    ids, values = rows(count, layout)
    part = form.open_part(path, layout)
    for first in range(0, count, step):
        some = slice(first, first + step)
        part.write(Block(ids[some], [str(one) for one in ids[some]], values[some]))
    part.close()
    return values


@pytest.mark.parametrize("suffix", [".npy", ".jsonl", ".parquet"])
@pytest.mark.parametrize("dtype", NUMBERS)
def test_the_bytes_of_a_part_depend_on_its_rows_alone(suffix, dtype, tmp_path):
    layout, form = Layout(width=3, dtype=dtype, own_ids=suffix != ".npy", with_text=suffix != ".npy"), DENSE[suffix]
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    form.check(layout)
    for step in (100, 4097, 5000):
        values = write(form, tmp_path / str(step), layout, step)
        if form.readable:
            found = form.read_part(tmp_path / str(step), layout)
            np.testing.assert_array_equal(found, values)
            assert found.dtype == values.dtype
    assert len({(tmp_path / str(step)).read_bytes() for step in (100, 4097, 5000)}) == 1


def test_the_name_says_the_format(tmp_path):
    assert format_of(tmp_path / "a.parquet").name == "parquet"
    with pytest.raises(InputError, match=r"a\.txt says no format: its name ends in none of \.npy, \.jsonl"):
        format_of(tmp_path / "a.txt")
