"""Documents are timed, queries are not, and both come normalized."""

from __future__ import annotations

from itertools import count

import numpy as np
import pytest

from nimbed.evaluate.timed import Timed, embed


class Counting:
    """An embedder that gives vectors of length 5 in two blocks, and remembers how it was asked."""

    def __init__(self):
        self.asked = []

    def encode_iter(self, texts, *, role="document", progress=False):
        self.asked.append((list(texts), role, progress))
        vectors = np.float32([[3, 4]] * len(texts))
        yield vectors[:1]
        yield vectors[1:]


@pytest.fixture
def clock(monkeypatch):
    """Every look at the clock is 2 seconds after the one before."""
    ticks = count(100.0, 2.0)
    monkeypatch.setattr("nimbed.evaluate.timed.time.perf_counter", lambda: next(ticks))


def test_documents_are_counted_and_timed_over_calls(clock):
    timed = Timed(Counting(), progress=False)
    timed.documents(["a", "b", "c"])
    timed.documents(["d"])
    assert (timed.texts, timed.seconds) == (4, 4.0)


def test_queries_are_not_part_of_the_speed(clock):
    timed = Timed(Counting(), progress=False)
    timed.queries(["a", "b"])
    assert (timed.texts, timed.seconds) == (0, 0.0)


def test_each_is_asked_for_in_its_role_and_comes_normalized():
    embedder = Counting()
    timed = Timed(embedder, progress=True)
    np.testing.assert_allclose(timed.documents(["a", "b", "c"]), np.float32([[0.6, 0.8]] * 3))
    np.testing.assert_allclose(timed.queries(["q"]), np.float32([[0.6, 0.8]]))
    assert embedder.asked == [(["a", "b", "c"], "document", True), (["q"], "query", True)]


def test_embed_gives_the_vectors_as_they_come():
    np.testing.assert_array_equal(embed(Counting(), ["a", "b"], "query"), np.float32([[3, 4], [3, 4]]))
