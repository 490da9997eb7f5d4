"""What a job is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.bulk_jobs import open_encoder

from nimbed._text.rows import Columns
from nimbed.bulk.request import Request, find_places
from nimbed.errors import InputError


def request_of(**options):
    return Request(**{"inputs": ("/in.txt",), "out": Path("/o/out.npy"), "columns": Columns(), **options})


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"part_rows": 0}, "part_rows=0 must be"),
        ({"processes": 0}, "processes=0 must be a whole number from 1"),
        ({"processes": "all"}, "processes='all' must be a whole number from 1"),
        ({"begin": "again"}, "begin='again' is not one of resume, restart, update"),
        ({"on_error": "ignore"}, "on_error='ignore' is not one of raise, skip"),
    ],
)
def test_options_that_are_refused(options, says):
    with pytest.raises(InputError, match=says):
        request_of(**options)


def test_places_are_beside_the_output():
    request = request_of()
    assert request.work == Path("/o/out.npy.partial")
    assert request.records == Path("/o/out.npy.nimbed")
    assert request_of(out=Path("/o/out.parquet")).records == Path("/o/out.parquet")


def test_the_key_is_all_that_parts_must_have_in_common():
    with open_encoder(dim=16) as encoder:
        request = request_of(dtype="ubinary", role="query")
        key = request.key(request.layout(encoder))
        assert key["fingerprint"] == encoder.fingerprint
    assert (key["width"], key["dtype"], key["role"], key["format"]) == (2, "ubinary", "query", "npy")
    assert key["columns"] == {"text": ["text"], "template": None, "id": None}


def test_an_output_without_a_place(tmp_path):
    (tmp_path / "in.txt").write_text("")
    with pytest.raises(InputError, match="there is no folder"):
        find_places([f"{tmp_path}/in.txt"], f"{tmp_path}/none/out.npy", None)
    with pytest.raises(InputError, match="is the file that is read"):
        find_places([f"{tmp_path}/in.txt"], f"{tmp_path}/in.txt", None)
    assert find_places([f"{tmp_path}/*.txt"], f"{tmp_path}/o.npy", None) == (
        (f"{tmp_path}/in.txt",),
        tmp_path / "o.npy",
    )
