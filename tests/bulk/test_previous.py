"""An update: what is known keeps its vector."""

from __future__ import annotations

import random

import numpy as np
import pytest
from tests.support.bulk_jobs import content, open_encoder, records, write_jsonl

from nimbed.bulk import embed_files
from nimbed.errors import FingerprintError, InputError


@pytest.fixture(scope="module")
def encoder():
    with open_encoder() as opened:
        yield opened


@pytest.mark.parametrize("out", ["out.npy", "out.parquet"])
def test_an_update_computes_what_is_new_and_drops_what_is_gone(out, tmp_path, encoder):
    rows, source = records(300), tmp_path / "in.jsonl"
    write_jsonl(source, rows)
    first = embed_files(encoder, source, tmp_path / out, part_rows=40, begin="update")
    assert (first.computed, first.kept, first.before) == (300, 0, 0)
    draw = random.Random(0)
    for _ in range(3):
        draw.shuffle(rows)
        rows = [*rows[7:], *records(4, 1000 * len(rows))]
        rows[9] = {"id": "changed", "text": f"changed {len(rows)}"}
        write_jsonl(source, [*rows, rows[20]])  # twice the same text
        before = len(encoder.encode([]))
        summary = embed_files(encoder, source, tmp_path / out, part_rows=40, begin="update")
        assert (summary.computed, summary.kept, before) == (5, len(rows) - 4, 0)
        (tmp_path / "full").mkdir(exist_ok=True)
        embed_files(encoder, source, tmp_path / "full" / out, part_rows=40, begin="restart")
        assert content(tmp_path / out) == content(tmp_path / "full" / out)
    again = embed_files(encoder, source, tmp_path / out, part_rows=40, begin="update")
    assert again.computed == 0


def test_another_model_is_refused(tmp_path, encoder):
    source = write_jsonl(tmp_path / "in.jsonl", records(30))
    embed_files(encoder, source, tmp_path / "out.npy", begin="update")
    write_jsonl(source, records(31))
    with open_encoder(max_length=99) as other, pytest.raises(FingerprintError, match="cannot stand in one output"):
        embed_files(other, source, tmp_path / "out.npy", begin="update")
    with pytest.raises(InputError, match="made with role='document', now it is 'query'"):
        embed_files(encoder, source, tmp_path / "out.npy", begin="update", role="query")


def test_what_was_altered_is_no_source_of_vectors(tmp_path, encoder):
    source, out = write_jsonl(tmp_path / "in.jsonl", records(30)), tmp_path / "out.npy"
    embed_files(encoder, source, out, begin="update")
    write_jsonl(source, records(31))
    vectors = np.load(out)
    np.save(out, vectors + 1)
    with pytest.raises(InputError, match=r"out\.npy is missing or was altered"):
        embed_files(encoder, source, out, begin="update")
    np.save(out, vectors)
    hashes = next((tmp_path / "out.npy.nimbed").rglob("*.hashes"))
    hashes.write_bytes(bytes(480))
    with pytest.raises(InputError, match=r"part-000000\.hashes was cut short or altered"):
        embed_files(encoder, source, out, begin="update")


def test_a_part_that_was_altered_is_no_source_either(tmp_path, encoder):
    source, out = write_jsonl(tmp_path / "in.jsonl", records(30)), tmp_path / "out.parquet"
    embed_files(encoder, source, out)
    write_jsonl(source, records(31))
    (out / "part-000000.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"part-000000\.parquet was cut short or altered"):
        embed_files(encoder, source, out, begin="update")


def test_vectors_are_not_read_back_from_text(tmp_path, encoder):
    source, out = write_jsonl(tmp_path / "in.jsonl", records(30)), tmp_path / "out.jsonl"
    embed_files(encoder, source, out, begin="update")
    write_jsonl(source, records(31))
    with pytest.raises(InputError, match=r"not read back from \.jsonl"):
        embed_files(encoder, source, out, begin="update")


def test_a_run_without_an_update_forgets_what_was_kept_for_one(tmp_path, encoder):
    source, out = write_jsonl(tmp_path / "in.jsonl", records(30)), tmp_path / "out.npy"
    embed_files(encoder, source, out, begin="update")
    write_jsonl(source, records(31))
    embed_files(encoder, source, out)
    assert not (tmp_path / "out.npy.nimbed").exists()
    assert embed_files(encoder, source, out, begin="update").computed == 31
