"""Rows embedded in their order."""

from __future__ import annotations

import numpy as np
import pytest
from tests.support.bulk_jobs import open_encoder

from nimbed._files.lines import Position
from nimbed._text.rows import Row
from nimbed.bulk.stream import Numbered, embed_rows_in_order
from nimbed.errors import InputError


def numbered(texts):
    return [Numbered(n, Row(text, None, "in.txt", n + 1, Position())) for n, text in enumerate(texts)]


def embedded(encoder, rows, refuse):
    blocks = list(embed_rows_in_order(encoder, iter(rows), role="document", dtype="float32", refuse=refuse))
    return [one for some, _ in blocks for one in some], np.concatenate([values for _, values in blocks])


def test_rows_and_values_come_together():
    rows = numbered(f"text {n}" for n in range(1300))
    with open_encoder() as encoder:
        found, values = embedded(encoder, rows, pytest.fail)
        assert found == rows
        np.testing.assert_array_equal(values, encoder.encode([one.row.text for one in rows]))


@pytest.mark.parametrize("long", [[0], [700], [3, 4, 511, 512, 1299], range(512, 1024)])
def test_rows_that_are_too_long_are_left_out_wherever_they_are(long, request):
    texts = ["x" * 30 if n in set(long) else f"text {n}" for n in range(1300)]
    rows, refused = numbered(texts), []
    with open_encoder(max_length=20, truncate="error") as encoder:
        found, values = embedded(encoder, rows, refused.append)
        assert found == [one for one in rows if one.number not in set(long)]
        np.testing.assert_array_equal(values, encoder.encode([one.row.text for one in found]))
    assert [row.line - 1 for row in refused] == list(long)
    assert {row.kind for row in refused} == {"too many tokens"}


def test_a_row_that_is_too_long_is_named_by_its_line():
    def refuse(row):
        raise row.error()

    with (
        open_encoder(max_length=20, truncate="error") as encoder,
        pytest.raises(InputError, match=r"in\.txt, line 601: more than max_length=20 tokens"),
    ):
        embedded(encoder, numbered("x" * (30 if n == 600 else 3) for n in range(700)), refuse)
