"""How one part is made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.support.bulk_jobs import open_encoder

from nimbed._files.lines import Position
from nimbed._text.rows import BadRow, Columns, Row
from nimbed.bulk.part import PartMaker
from nimbed.bulk.part_files import RECORDS, hash_of
from nimbed.bulk.plan import Part
from nimbed.bulk.request import Request
from nimbed.errors import InputError

ROWS = [
    Row("a", "x", "/in.jsonl", 1, Position(9, 1)),
    BadRow("not JSON", "no JSON", "/in.jsonl", 2, Position(11, 2)),
    Row("a much longer text", "y", "/in.jsonl", 3, Position(19, 3)),
]
PART = Part(100, 3, 0, Position())


def make(folder, encoder, on_error, seen):
    (folder / RECORDS).mkdir()
    request = Request(inputs=("/in.jsonl",), out=Path("/out.npy"), columns=Columns(), on_error=on_error)
    maker = PartMaker(request, folder, encoder, request.layout(encoder), None)
    return maker.make(4, PART, iter(ROWS), seen)


def test_a_part_knows_what_is_in_it(tmp_path):
    seen = []
    with open_encoder(max_length=8, truncate="silent") as encoder:
        files, record = make(tmp_path, encoder, "skip", seen.append)
        names = files.publish()
        vectors = np.fromfile(tmp_path / "part-000004.rows", "<f4").reshape(-1, 8)
        np.testing.assert_array_equal(vectors, encoder.encode(["a", "a much longer text"]))
    assert (record.part, record.input, record.first, record.rows) == (4, "/in.jsonl", 100, 2)
    assert (record.truncated, record.skipped, record.read, sum(seen)) == (1, {"not JSON": 1}, 3, 3)
    assert len(names) == 3
    hashes = (tmp_path / RECORDS / "part-000004.hashes").read_bytes()
    assert hashes == hash_of("a") + hash_of("a much longer text")


def test_a_bad_row_leaves_nothing(tmp_path):
    with open_encoder() as encoder, pytest.raises(InputError, match=r"in\.jsonl, line 2: no JSON"):
        make(tmp_path, encoder, "raise", lambda _: None)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
