"""Every engine's vectors are numbers, of the files that were opened."""

from __future__ import annotations

import numpy as np
import pytest

from nimbed._files.digests import Unchanged
from nimbed._serving.checked_session import CheckedSession, checked
from nimbed._types import TokenBatch
from nimbed.backends.protocol import Bulk
from nimbed.backends.shapes import ShapePolicy
from nimbed.errors import ArtefactError, BackendError

BATCH = TokenBatch.from_sequences([np.zeros(2, np.int32)] * 3)


class Answering:
    """A session that gives what it is told to, and counts."""

    any_thread = False

    def __init__(self, vectors=None, meanwhile=lambda: None) -> None:
        self.vectors = np.ones((3, 2), np.float32) if vectors is None else vectors
        self.meanwhile = meanwhile
        self.expected = 0
        self.ran = []

    def expect(self):
        self.expected += 1

    def run(self, batch):
        self.ran.append(batch)
        self.meanwhile()
        return self.vectors


NO_FILES = Unchanged.of(())


def test_what_is_sound_passes_as_it_is():
    inner = Answering()
    session = CheckedSession(inner, NO_FILES)
    assert session.run(BATCH) is inner.vectors
    assert inner.ran == [BATCH]
    session.expect()
    assert inner.expected == 1


@pytest.mark.parametrize("any_thread", [True, False])
def test_the_engines_wish_for_one_thread_is_passed_on(any_thread):
    inner = Answering()
    inner.any_thread = any_thread
    assert CheckedSession(inner, NO_FILES).any_thread is any_thread


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_rows_that_are_not_finite_are_counted(wrong):
    vectors = np.ones((3, 2), np.float32)
    vectors[0, 1] = vectors[2] = wrong
    with pytest.raises(BackendError, match=r"not finite, for 2 of 3 texts: .*nimbed verify"):
        CheckedSession(Answering(vectors), NO_FILES).run(BATCH)


def test_the_largest_numbers_are_numbers():
    vectors = np.full((3, 2), np.finfo(np.float32).max, np.float32)
    assert CheckedSession(Answering(vectors), NO_FILES).run(BATCH) is vectors


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "model.bin"
    path.write_bytes(b"weights")
    return path


def test_a_file_that_was_written_into_is_noticed_before_the_engine_reads_it(file):
    inner = Answering()
    session = CheckedSession(inner, Unchanged.of([file]))
    session.run(BATCH)
    file.write_bytes(b"cut")
    with pytest.raises(ArtefactError, match=r"model\.bin was written into"):
        session.run(BATCH)
    assert len(inner.ran) == 1


def test_a_file_that_is_written_into_meanwhile_is_noticed_too(file):
    inner = Answering(meanwhile=lambda: file.write_bytes(b"cut"))
    with pytest.raises(ArtefactError, match=r"model\.bin was written into"):
        CheckedSession(inner, Unchanged.of([file])).run(BATCH)


def test_all_sessions_of_a_backend_are_checked():
    class Backend:
        shapes = ShapePolicy(token_budget=1)
        many = ShapePolicy(token_budget=9)

        def session(self):
            return Answering(np.float32([[np.nan]]))

        def bulk(self):
            return Bulk(sessions=[self.session(), self.session()], shapes=self.many)

    session, bulk = checked(Backend(), NO_FILES)
    assert bulk.shapes is Backend.many
    assert len(bulk.sessions) == 2
    for one in (session, *bulk.sessions):
        with pytest.raises(BackendError, match="not finite"):
            one.run(BATCH)
