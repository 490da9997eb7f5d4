"""``.jsonl`` files."""

from __future__ import annotations

import json

import numpy as np
import pytest

from nimbed.bulk.jsonl_format import JsonlFormat
from nimbed.bulk.layout import Block, Layout
from nimbed.errors import InputError

FORM = JsonlFormat()


@pytest.mark.parametrize("with_text", [True, False])
def test_floats_keep_their_bits(with_text, tmp_path):
    layout = Layout(width=3, with_text=with_text)
    values = np.random.default_rng(0).standard_normal((150, 3)).astype(np.float32)
    part = FORM.open_part(tmp_path / "a", layout)
    part.write(Block(list(range(150)), [f"é {n}" for n in range(150)], values))
    part.close()
    FORM.join([tmp_path / "a", tmp_path / "a"], tmp_path / "out.jsonl", layout)
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    np.testing.assert_array_equal(np.float32([row["vector"] for row in rows]), np.concatenate([values, values]))
    assert rows[149]["id"] == 149
    assert rows[149].get("text") == ("é 149" if with_text else None)


def test_a_place_that_cannot_be_written(tmp_path):
    with pytest.raises(InputError, match=r"out\.jsonl cannot be written"):
        FORM.join([], tmp_path / "none" / "out.jsonl", Layout(width=3))
