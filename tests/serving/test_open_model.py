"""Opened once, whoever asks; closed for good; a copy opens when it is first used."""

from __future__ import annotations

import gc
import pickle
import threading

import pytest

from nimbed._loading.engine import open_engine
from nimbed._loading.settings import CacheConfig, Settings
from nimbed._serving.open_model import OpenModel
from nimbed._types import BatchRecord
from nimbed.errors import ClosedError, InputError, InputTypeError

RECORD = BatchRecord(role="query", rows=1, tokens=3, padded_tokens=4, seconds=0.1)


@pytest.fixture
def engines(monkeypatch):
    """What was opened; each engine's backend notes that it was closed."""
    opened = []

    def open_noted(*given):
        engine = open_engine(*given)
        closed = engine.backend.close
        engine.backend.closings = 0

        def close():
            engine.backend.closings += 1
            closed()

        engine.backend.close = close
        opened.append(engine)
        return engine

    monkeypatch.setattr("nimbed._serving.open_model.open_engine", open_noted)
    return opened


def model(**more) -> OpenModel:
    return OpenModel(Settings(model="m", backend="fake", **more))


def test_it_is_open_at_once_and_says_what_was_chosen(engines):
    with model(dim=16) as one:
        assert len(engines) == 1
        assert one.info is engines[0].info
        assert one.fingerprint == one.info.fingerprint
        assert repr(one) == "OpenModel('m', backend='fake', precision='auto')"
    assert engines[0].backend.closings == 1


def test_what_cannot_be_opened_raises_at_once():
    with pytest.raises(InputError, match="dim=385"):
        model(dim=385)


def test_closed_is_closed(engines):
    one = model()
    one.close()
    one.close()
    assert engines[0].backend.closings == 1
    with pytest.raises(ClosedError):
        _ = one.info
    assert one.stats().queue_depth == 0


def test_who_is_forgotten_is_closed(engines):
    one = model()
    del one
    gc.collect()
    assert engines[0].backend.closings == 1


def test_a_copy_opens_when_it_is_first_used_with_counts_of_its_own(engines):
    with model(dim=16) as one:
        one._meter.batch(RECORD)
        with pickle.loads(pickle.dumps(one)) as copied:
            assert copied.stats().batches == 0
            assert len(engines) == 1
            assert copied.fingerprint == one.fingerprint
            assert len(engines) == 2


def test_a_copy_that_was_closed_unused_opens_nothing(engines):
    with model() as one:
        copied = pickle.loads(pickle.dumps(one))
        copied.close()
        with pytest.raises(ClosedError):
            _ = copied.info
    assert len(engines) == 1


def test_threads_that_come_at_once_open_one(engines):
    with model() as one, pickle.loads(pickle.dumps(one)) as copied:
        together, found = threading.Barrier(8), []

        def look():
            together.wait()
            found.append(copied.info)

        threads = [threading.Thread(target=look) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(engines) == 2
        assert all(info is engines[1].info for info in found)


def test_who_closes_it_while_it_opens_leaves_nothing_open(engines, monkeypatch):
    with model() as one:
        copied = pickle.loads(pickle.dumps(one))

    def open_and_close(*given):
        engine = open_engine(*given)
        engine.backend.close = lambda: engines.append("closed")
        copied.close()  # as a signal handler may
        return engine

    monkeypatch.setattr("nimbed._serving.open_model.open_engine", open_and_close)
    with pytest.raises(ClosedError):
        _ = copied.info
    assert engines[-1] == "closed"


def test_what_fails_to_start_is_closed(engines, monkeypatch):
    def refuse(_):
        raise MemoryError

    monkeypatch.setattr("nimbed._serving.runtime.Runtime.start", refuse)
    with pytest.raises(MemoryError):
        model()
    assert engines[0].backend.closings == 1


def test_stats_hold_counts_queue_and_cache():
    with model(cache=CacheConfig(size_bytes=7)) as one:
        one._meter.batch(RECORD)
        found = one.stats()
        assert (found.batches, found.tokens, found.padding_waste, found.queue_depth) == (1, 3, 0.25, 0)
        assert found.cache.entries == 0
    with model(cache=None) as one:
        assert one.stats().cache is None


def test_a_hook_hears_until_it_is_taken_away():
    with model() as one:
        heard = []
        take_away = one.on_batch(heard.append)
        one._meter.batch(RECORD)
        take_away()
        one._meter.batch(RECORD)
        assert heard == [RECORD]
        with pytest.raises(InputTypeError, match="takes a function of a BatchRecord, not int"):
            one.on_batch(3)
