"""The shared tier: what is stored, what is damaged, what fails, and that an embedding never does."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from unittest.mock import Mock

import numpy as np
import pytest
from tests.support.redis_server import redis_server

from nimbed import CacheConfig, Encoder
from nimbed._cache import store_thread
from nimbed._cache.breaker import Breaker
from nimbed._cache.lru import Entry
from nimbed._cache.shared_tier import GuardedTier
from nimbed._cache.stored_values import Seal
from nimbed.errors import TruncationError

DIM = 4
SEAL = Seal(DIM)
TEXTS = [f"text number {n}" for n in range(20)]


def entry(value: float = 1.0, cut: int = 0) -> Entry:
    return Entry(np.full(DIM, value, np.float32).tobytes(), cut)


@pytest.fixture
def server(tmp_path):
    made = redis_server(tmp_path)
    yield made
    made.kill()


@pytest.fixture(params=["sqlite", "redis"])
def url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/deeper/vectors.db"
    return request.getfixturevalue("server").url


def encoder(url: str, **more) -> Encoder:
    return Encoder("m", backend="fake", cache=CacheConfig(url=url, **more))


def settled(encoder: Encoder, **wanted: int):
    """The tier's counts, once the thread that writes has come so far."""
    for _ in range(500):
        stats = encoder.stats().cache.tier
        if all(getattr(stats, name) >= number for name, number in wanted.items()):
            return stats
        time.sleep(0.01)
    raise AssertionError(f"{wanted} did not come: {stats}")


# Through an encoder


def test_two_processes_share(url):
    with encoder(url) as first:
        vectors = first.encode(TEXTS)
        assert settled(first, written=20).misses == 20
    with encoder(url) as second:
        np.testing.assert_array_equal(second.encode(TEXTS), vectors)
        tier = second.stats().cache.tier
        assert (tier.hits, tier.misses, tier.state) == (20, 0, "up")
        assert second.stats().batches == 0
        # Now they are in the process's own cache.
        second.encode(TEXTS)
        assert second.stats().cache.tier.hits == 20


def test_some_from_the_tier_some_computed_in_their_order(url):
    with encoder(url) as first:
        first.encode(TEXTS[::2])
        settled(first, written=10)
    with encoder(url) as second, Encoder("m", backend="fake", cache=None) as reference:
        expected = reference.encode(TEXTS)
        np.testing.assert_array_equal(second.encode(TEXTS), expected)
        assert second.stats().cache.tier.hits == 10


def test_close_writes_what_waits(url):
    with encoder(url) as first:
        first.encode(TEXTS)
    with encoder(url) as second:
        second.encode(TEXTS)
        assert second.stats().cache.tier.hits == 20


def test_a_truncated_text_is_told_of_from_the_tier_too(url):
    long = ["word " * 900]
    with encoder(url) as first, pytest.warns(UserWarning, match="the longest"):
        first.encode(long)
    with encoder(url) as second:
        with pytest.warns(UserWarning, match="the longest"):
            second.encode(long)
        assert (second.stats().truncated, second.stats().batches) == (1, 0)


def test_a_vector_of_a_cut_text_is_refused_where_the_policy_is_error(url):
    with Encoder("m", backend="fake", cache=url, truncate="silent") as first:
        first.encode(["word " * 900])
        settled(first, written=1)
    with Encoder("m", backend="fake", cache=url, truncate="error") as second:
        for texts in (["word " * 900], ["short", "word " * 900]):
            with pytest.raises(TruncationError, match=f"item {len(texts) - 1}"):
                second.encode(texts)


def test_values_expire(url):
    with encoder(url, ttl_s=0.2) as first:
        first.encode(TEXTS[:2])
        settled(first, written=2)
    time.sleep(0.3)
    with encoder(url) as second:
        second.encode(TEXTS[:2])
        assert second.stats().cache.tier.misses == 2


def test_encode_iter_reads_and_writes_the_tier_but_leaves_the_processs_cache_alone(url):
    with encoder(url) as first:
        assert sum(map(len, first.encode_iter(TEXTS))) == 20
        assert settled(first, written=20).written == 20
        assert first.stats().cache.entries == 0
        assert sum(map(len, first.encode_iter(TEXTS))) == 20
        assert first.stats().cache.tier.hits == 20


def test_garbage_in_redis_is_computed_anew_and_overwritten(server):
    with encoder(server.url) as first:
        vectors = first.encode(TEXTS)
        settled(first, written=20)
    client = server.client()
    keys = sorted(client.keys("nimbed:*"))
    assert len(keys) == 20
    whole = {key: client.get(key) for key in keys}
    for n, key in enumerate(keys):
        garbage = [b"", b"x" * 5000, whole[key][:-3], bytes(len(whole[key])), whole[keys[n - 1]]][n % 5]
        client.set(key, garbage)
    client.delete(keys[0])
    client.rpush(keys[0], "a list where a string belongs")
    with encoder(server.url) as second:
        np.testing.assert_array_equal(second.encode(TEXTS), vectors)
        tier = settled(second, written=20)
        assert (tier.hits, tier.damaged) == (0, 19)
    with encoder(server.url) as third:
        third.encode(TEXTS)
        assert third.stats().cache.tier.hits == 20


def test_garbage_in_a_file(tmp_path):
    url = f"sqlite:///{tmp_path}/v.db"
    with encoder(url) as first:
        vectors = first.encode(TEXTS)
    connection = sqlite3.connect(tmp_path / "v.db")
    with connection:
        connection.execute("UPDATE vectors SET value = zeroblob(length(value))")
    connection.close()
    with encoder(url) as second:
        np.testing.assert_array_equal(second.encode(TEXTS), vectors)
        assert second.stats().cache.tier.damaged == 20


# Failures


def test_redis_killed_and_started_again(server, caplog):
    with encoder(server.url, timeout_s=0.1) as one, Encoder("m", backend="fake", cache=None) as reference:
        one.encode(["before"])
        settled(one, written=1)
        server.kill()
        for n in range(5):
            np.testing.assert_array_equal(one.encode([f"down {n}"]), reference.encode([f"down {n}"]))
        tier = settled(one, dropped=1)
        assert tier.state == "down"
        assert tier.failures >= 1
        server.start()
        for n in range(400):
            one.encode([f"up {n}"])
            if one.stats().cache.tier.written >= 2:  # "up" comes earlier: when the pause is over
                break
            time.sleep(0.01)
        assert settled(one, written=2).state == "up"
    warned = [r for r in caplog.records if r.levelno == logging.WARNING and "failed" in r.getMessage()]
    assert len(warned) == 1


def test_redis_that_hangs_costs_the_stated_delay_once(server):
    with encoder(server.url, timeout_s=0.2) as one:
        one.encode(["before"])
        settled(one, written=1)
        server.hang()
        started = time.perf_counter()
        for n in range(20):
            assert one.encode([f"text {n}"]).shape == (1, 384)
        took = time.perf_counter() - started
        server.go_on()
        assert one.stats().cache.tier.failures == 1
    assert took < 2.0  # not a speed: without the breaker it would be 4


def test_never_reachable(tmp_path):
    with encoder("redis://127.0.0.1:1/0", timeout_s=0.05) as one:
        assert one.encode(TEXTS).shape == (20, 384)
        assert one.stats().cache.tier.state == "down"


class ResponseError(Exception):
    """As redis-py calls a server's refusal."""


class Broken:
    """A store that fails as often as it is told to."""

    def __init__(self, failures: int) -> None:
        self.left = failures
        self.calls = 0
        self.values: dict[bytes, bytes] = {}

    def _once(self) -> None:
        self.calls += 1
        if self.left:
            self.left -= 1
            raise OSError("down")

    def get(self, keys):
        self._once()
        return [self.values.get(key) for key in keys]

    def put(self, values):
        self._once()
        self.values.update(values)

    def interrupt(self) -> None:
        raise OSError("this too")

    def close(self) -> None:
        raise OSError("even this")


def guarded(store, *, timeout_s: float = 0.5, **more) -> GuardedTier:
    return GuardedTier(store, name="test", seal=SEAL, timeout_s=timeout_s, **more)


def test_a_short_failure_is_retried():
    store = Broken(2)
    store.values[b"k"] = SEAL.pack(b"k", entry())
    tier = guarded(store)
    assert tier.get([b"k"]) == [entry()]
    assert (store.calls, tier.stats().failures) == (3, 0)
    tier.close()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ResponseError("DENIED Redis is running in protected mode"), "(ResponseError: DENIED)"),
        (ResponseError("unknown command 'SECRET'"), "(ResponseError)"),
        (OSError("DENIED by the system"), "(OSError)"),
    ],
)
def test_a_failure_says_how_redis_refused_and_nothing_that_was_sent(error, said, caplog, monkeypatch):
    store = Broken(0)
    monkeypatch.setattr(store, "get", Mock(side_effect=error))
    tier = guarded(store)
    assert tier.get([b"k"]) == [None]
    tier.close()
    (warned,) = (record for record in caplog.records if record.levelno == logging.WARNING)
    assert warned.getMessage().startswith(f"test failed {said}; embeddings go on without it")


def test_the_breaker_opens_and_tries_again_later():
    now = [100.0]
    store = Broken(10**6)
    tier = guarded(store, breaker=Breaker(clock=lambda: now[0], jitter=lambda: 0.5))
    pauses = []
    for _ in range(9):
        before = store.calls
        assert tier.get([b"k"]) == [None]
        assert store.calls > before
        calls = store.calls
        began = now[0]
        while not (tier.get([b"k"]) == [None] and store.calls > calls):
            now[0] += 0.25
        pauses.append(now[0] - began)
        now[0] += 1000
    assert pauses[0] == 1.0 or pauses[0] == 2.0
    assert max(pauses) <= 60
    assert tier.stats().state == "up"  # the pause is over; the next call will try
    store.left = 0
    tier.get([b"k"])
    tier.put({b"k": entry()})
    tier.close()
    assert SEAL.unpack(b"k", store.values[b"k"]) == entry()


def test_a_store_too_slow_to_write_drops_and_counts(monkeypatch):
    monkeypatch.setattr(store_thread, "_MAX_WRITES", 32)
    hold = threading.Event()
    store = Broken(0)
    put, store.put = store.put, lambda values: (hold.wait(5), put(values))
    tier = guarded(store, timeout_s=10)
    for n in range(60):
        tier.put({n.to_bytes(2, "little"): entry()})
    dropped = tier.stats().dropped
    hold.set()
    tier.close()
    assert 60 - dropped == tier.stats().written == len(store.values)
    assert 0 < dropped < 60
