"""Batches through a session: what fails is divided until only the guilty fail."""

from __future__ import annotations

import numpy as np
import pytest

from nimbed._serving.queues import Batch, Request
from nimbed._serving.runner import Runner, for_others, warm_up
from nimbed._types import TokenBatch
from nimbed.backends.shapes import ShapePolicy
from nimbed.errors import BackendError, OutOfMemoryError

POISON = 666


class Engine:
    """A session whose vector of a sequence is (its first id, its length); it refuses poison and large batches."""

    any_thread = True

    def __init__(self, room: int = 100, width: int = 2) -> None:
        self.room, self.width = room, width
        self.ran: list[list[int]] = []

    def expect(self):
        pass

    def run(self, batch):
        firsts = [int(batch.ids[start]) for start in batch.offsets[:-1]]
        self.ran.append(firsts)
        if len(firsts) > self.room:
            raise OutOfMemoryError("too large")
        if POISON in firsts:
            raise BackendError("poisoned")
        rows = [[first, n][: self.width] for first, n in zip(firsts, batch.lengths, strict=True)]
        return np.float32(rows)


def request(*firsts: int) -> Request:
    return Request([np.int32([first, 0, 0]) for first in firsts], np.zeros((len(firsts), 2), np.float32))


def batch_of(*requests: Request) -> Batch:
    return Batch(role="document", rows=[(one, index) for one in requests for index in range(len(one.sequences))])


@pytest.fixture
def records():
    return []


@pytest.fixture
def runner(records):
    shapes = ShapePolicy(token_budget=100)
    return Runner(2, {"query": shapes, "document": ShapePolicy(token_budget=100, lengths=(4, 8))}, records.append)


def vectors(results):
    return np.concatenate([rows for _, rows in results]).tolist() if results else []


def test_a_batch_gives_its_vectors_and_is_reported_with_its_padding(runner, records):
    batch = batch_of(request(1, 2), request(3))
    results = runner.run(batch, Engine())
    assert results[0][0] is batch
    assert vectors(results) == [[1, 3], [2, 3], [3, 3]]
    (record,) = records
    assert (record.role, record.rows, record.tokens, record.padded_tokens) == ("document", 3, 9, 12)
    assert record.seconds >= 0


def test_a_failure_is_tried_again_caller_by_caller(runner, records):
    good, bad, other = request(1, 2), request(POISON, 3), request(4)
    engine = Engine()
    assert vectors(runner.run(batch_of(good, bad, other), engine)) == [[1, 3], [2, 3], [4, 3]]
    assert engine.ran == [[1, 2, POISON, 3, 4], [1, 2], [POISON, 3], [4]]
    assert str(bad.promise.exception()) == "poisoned"
    assert not good.done
    assert not other.done
    assert len(records) == 1  # one batch, however often it was tried


def test_a_lone_callers_failure_is_not_tried_again(runner):
    bad, engine = request(POISON, 1), Engine()
    assert runner.attempt(batch_of(bad), engine) == []
    assert len(engine.ran) == 1
    assert bad.done


def test_a_batch_too_large_for_memory_is_halved_once(runner):
    one, engine = request(1, 2, 3, 4), Engine(room=2)
    assert vectors(runner.attempt(batch_of(one), engine)) == [[1, 3], [2, 3], [3, 3], [4, 3]]
    assert engine.ran == [[1, 2, 3, 4], [1, 2], [3, 4]]


def test_the_second_failure_for_memory_is_the_callers(runner):
    one, engine = request(1, 2, 3, 4), Engine(room=1)
    assert runner.attempt(batch_of(one), engine) == []
    assert isinstance(one.promise.exception(), OutOfMemoryError)


def test_a_lone_row_too_large_for_memory_fails(runner):
    one = request(1)
    assert runner.attempt(batch_of(one), Engine(room=0)) == []
    assert isinstance(one.promise.exception(), OutOfMemoryError)


def test_vectors_of_another_width_are_an_error(runner):
    one = request(1)
    assert runner.attempt(batch_of(one), Engine(width=1)) == []
    assert str(one.promise.exception()) == "the engine gave vectors of shape (1, 1) for 1 texts"


def test_what_is_no_error_of_the_engine_comes_through(runner):
    class Interrupted(Engine):
        def run(self, batch):
            raise KeyboardInterrupt

    one = request(1)
    with pytest.raises(KeyboardInterrupt):
        runner.run(batch_of(one), Interrupted())
    assert not one.done  # its thread decides what becomes of it


def test_a_shape_is_warmed_for_itself_and_may_fail():
    engine = Engine(room=1)
    for rows in (1, 2):
        assert warm_up(engine, TokenBatch.from_sequences([np.zeros(3, np.int32)] * rows)) == []
    assert len(engine.ran) == 2


def test_what_ends_a_thread_is_an_error_of_ours_for_others():
    own = ValueError("an error")
    assert for_others(own) is own
    stopped = for_others(SystemExit(3))
    assert isinstance(stopped, BackendError)
    assert "SystemExit(3)" in str(stopped)
    assert isinstance(stopped.__cause__, SystemExit)
