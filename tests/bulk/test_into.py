"""From any iterable to any writer."""

from __future__ import annotations

import numpy as np
import pytest
from tests.support.bulk_jobs import open_encoder

from nimbed.bulk import embed_into, index_into
from nimbed.errors import InputError, InputTypeError

ROWS = [(f"r{n}", f"passage {n}") for n in range(95)]


@pytest.fixture(scope="module")
def encoder():
    with open_encoder() as opened:
        yield opened


def test_a_writer_that_dies_is_gone_on_with(tmp_path, encoder):
    taken, calls = {}, []

    def writer(ids, texts, vectors):
        calls.append(len(ids))
        if len(calls) == 4:
            raise ConnectionError
        taken.update(zip(ids, vectors, strict=True))

    options = {"batch_rows": 20, "checkpoint": tmp_path / "state.json"}
    with pytest.raises(ConnectionError):
        embed_into(encoder, ROWS, writer, **options)
    done = embed_into(encoder, iter(ROWS), writer, **options)
    assert (done.added, done.skipped, calls) == (35, 60, [20, 20, 20, 20, 20, 15])
    np.testing.assert_array_equal([taken[name] for name, _ in ROWS], encoder.encode([text for _, text in ROWS]))
    with pytest.raises(InputError, match="are others now"):
        embed_into(encoder, ROWS[::-1], writer, **options)


def test_options_that_do_not_go_together(tmp_path):
    class Store:
        add_documents = stores_text = add = None

    with pytest.raises(InputError, match="both say what is there already"):
        index_into(Store(), [], known=object(), checkpoint=tmp_path / "a")
    with pytest.raises(InputError, match="give it as known="):
        index_into(Store(), [], cleanup="full")
    with pytest.raises(InputTypeError, match="store is dict, no vector store"):
        index_into({}, [])
    del Store.add_documents
    with pytest.raises(InputError, match="embed_model= is missing"):
        index_into(Store(), [])
    with pytest.raises(InputError, match="batch_rows=0 must be"):
        index_into(Store(), [], batch_rows=0)
