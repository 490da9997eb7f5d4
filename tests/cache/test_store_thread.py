"""A store may do whatever it likes: calls do not fail, entries are genuine, nobody waits for long, and stats say so."""

from __future__ import annotations

import contextlib
import logging
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nimbed import CacheConfig, Encoder
from nimbed._cache.lru import Entry
from nimbed._cache.shared_tier import GuardedTier
from nimbed._cache.stored_values import Seal
from nimbed._cache.stores import open_store

DIM = 4
ROOT = Path(__file__).parents[2]
SEAL = Seal(DIM)
KEYS = [bytes([n]) * 16 for n in range(6)]


def entry(key: bytes) -> Entry:
    return Entry(np.full(DIM, key[0], np.float32).tobytes(), 0)


class PanicError(BaseException):
    """As an extension in Rust raises them."""


class Unruly:
    """A store that does what a list of acts says, in turn, and works when the list is at its end.

    An act is an exception that is raised, or what is made of the genuine reply and given.
    """

    def __init__(self, acts) -> None:
        self.acts = list(acts)
        self.values: dict[bytes, bytes] = {}

    def get(self, keys):
        return self._act([self.values.get(key) for key in keys])

    def put(self, values):
        act = self._act(None)
        self.values.update(values)
        return act

    def interrupt(self):
        self._act(None)

    def close(self):
        self._act(None)

    def _act(self, reply):
        act = self.acts.pop(0) if self.acts else None
        if isinstance(act, (type, BaseException)):
            raise act
        return reply if act is None else act(reply)


def guarded(store, *, timeout_s: float = 0.2) -> GuardedTier:
    return GuardedTier(store, name="test", seal=SEAL, timeout_s=timeout_s)


def made(key: bytes) -> bytes:
    return SEAL.pack(key, entry(key))


exceptions = st.sampled_from(
    [
        OSError("x"), ValueError(), TypeError(), UnicodeError("label too long"), MemoryError(), RecursionError(),
        AssertionError(), SystemExit(3), KeyboardInterrupt(), GeneratorExit(), StopIteration(), PanicError(),
        TimeoutError,
    ]
)  # fmt: skip
values = st.one_of(
    st.none(), st.integers(), st.text(max_size=3), st.binary(max_size=60), st.floats(), st.sampled_from(KEYS).map(made)
)
replies = st.one_of(
    values.map(lambda value: lambda _: value),
    st.lists(values, max_size=8).map(lambda reply: lambda _: reply),
    st.sampled_from(
        [lambda reply: tuple(reply or ()), lambda reply: (reply or [None])[:-1], lambda reply: iter(reply or ())]
    ),
)
calls = st.lists(st.tuples(st.sampled_from(["get", "put"]), st.lists(st.sampled_from(KEYS), max_size=4)), max_size=8)


@given(acts=st.lists(st.one_of(st.none(), exceptions, replies), max_size=8), calls=calls)
@settings(deadline=None, max_examples=150)
def test_whatever_a_store_does_calls_do_not_fail_and_entries_are_genuine(acts, calls):
    store = Unruly(acts)
    tier = guarded(store)
    for what, keys in calls:
        if what == "put":
            tier.put({key: entry(key) for key in keys})
        else:
            found = tier.get(keys)
            assert [one in {None, entry(key)} for key, one in zip(keys, found, strict=True)] == [True] * len(keys)
    thread = tier._thread._thread
    assert thread is None or thread.is_alive()
    stats = tier.stats()
    assert stats.hits + stats.misses == sum(len(keys) for what, keys in calls if what == "get")
    assert stats.failures or stats.state == "up"
    tier.close()
    assert thread is None or not thread.is_alive()
    stats = tier.stats()
    assert stats.written + stats.dropped == sum(len(set(keys)) for what, keys in calls if what == "put")


FAULTS = {
    "an exception": [OSError("x")] * 3,
    "an unexpected one": [UnicodeError("label too long")] * 3,
    "one that is no Exception": [PanicError()],
    "no list": [lambda _: None] * 3,
    "too short": [lambda reply: reply[:-1]] * 3,
    "too long": [lambda reply: [*reply, None]] * 3,
}


@pytest.mark.parametrize("acts", FAULTS.values(), ids=FAULTS)
def test_a_fault_is_a_failure_and_the_state_says_so(acts):
    tier = guarded(Unruly(acts))
    assert tier.get(KEYS[:2]) == [None, None]
    assert (tier.stats().state, tier.stats().failures) == ("down", 1)
    tier.close()


@pytest.mark.parametrize(
    "act", [OSError("x"), UnicodeError(), PanicError(), SystemExit()], ids=lambda act: type(act).__name__
)
def test_a_fault_in_writing_is_one_too_and_the_thread_lives(act):
    tier = guarded(Unruly([act] * 3))
    tier.put({KEYS[0]: entry(KEYS[0])})
    for _ in range(500):
        if tier.stats().dropped:
            break
        time.sleep(0.01)
    assert (tier.stats().state, tier.stats().dropped, tier.stats().failures) == ("down", 1, 1)
    assert tier._thread._thread.is_alive()
    tier.close()


def test_what_the_users_own_log_handler_raises_fails_no_call():
    class Handler(logging.Handler):
        def emit(self, record):
            raise RuntimeError

    handler = Handler()
    logging.getLogger("nimbed").addHandler(handler)
    try:
        tier = guarded(Unruly([OSError("x")] * 3))
        assert tier.get(KEYS[:1]) == [None]
        tier.close()
    finally:
        logging.getLogger("nimbed").removeHandler(handler)


def test_a_thread_that_cannot_start_fails_no_call(monkeypatch):
    def no_thread(self):
        raise RuntimeError("can't start new thread")

    tier = guarded(Unruly([]))
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        assert tier.get(KEYS[:1]) == [None]
        tier.put({KEYS[0]: entry(KEYS[0])})
        assert (tier.stats().state, tier.stats().failures, tier.stats().dropped) == ("down", 1, 1)
        tier.close()
    assert tier.get(KEYS[:1]) == [None]


# Time


class Hanging(Unruly):
    """Never answers, and can't be interrupted."""

    def __init__(self) -> None:
        super().__init__([])
        self.go_on = threading.Event()

    def get(self, keys):
        self.go_on.wait(60)
        return super().get(keys)

    put = get


@pytest.mark.parametrize("first", ["get", "put"])
def test_all_who_wait_behind_a_store_that_hangs_are_let_go_in_time(first):
    store = Hanging()
    tier = guarded(store, timeout_s=0.25)
    took = []
    if first == "put":
        tier.put({KEYS[0]: entry(KEYS[0])})

    def call() -> None:
        started = time.monotonic()
        assert tier.get(KEYS) == [None] * 6
        took.append(time.monotonic() - started)

    threads = [threading.Thread(target=call) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(took) == 50
    assert max(took) < 1.5  # one after another it would be 25 s
    assert (tier.stats().state, tier.stats().failures) == ("down", 1)
    started = time.monotonic()
    tier.close()
    assert time.monotonic() - started < 4
    store.go_on.set()


def test_writing_alone_notices_a_store_that_hangs():
    store = Hanging()
    tier = guarded(store, timeout_s=0.02)
    tier.put({KEYS[0]: entry(KEYS[0])})
    time.sleep(0.2)
    assert tier.stats().state == "down"
    tier.put({KEYS[1]: entry(KEYS[1])})
    assert (tier.stats().dropped, tier.stats().failures) == (1, 1)
    store.go_on.set()
    tier.close()


def test_a_signals_handler_may_use_the_tier():
    """In a process of its own: a signal may come to any of a process's threads, also those of other libraries."""
    code = "from tests.cache.test_store_thread import use_the_tier_within_itself; use_the_tier_within_itself()"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr[-2000:]


def use_the_tier_within_itself():
    tier = guarded(Unruly([]), timeout_s=5)
    answered = []

    def handler(*_) -> None:
        answered.append(tier.get(KEYS[:1]))
        tier.put({KEYS[0]: entry(KEYS[0])})
        tier.stats()

    before = signal.signal(signal.SIGALRM, handler)
    try:
        for n in range(300):
            signal.setitimer(signal.ITIMER_REAL, 1e-6 * (1 + n % 100))
            tier.get(KEYS[:2])
            tier.put({KEYS[1]: entry(KEYS[1])})
            tier.stats()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert answered
    assert tier.stats().failures == 0
    tier.close()


@contextlib.contextmanager
def dripping_server():
    """Answers each connection with one byte of a long reply now and then."""
    stop = threading.Event()

    def drip(connection) -> None:
        with connection, contextlib.suppress(OSError):
            connection.sendall(b"$100000\r\n")
            while not stop.wait(0.02):
                connection.sendall(b"x")

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=drip, args=[listener.accept()[0]], daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        try:
            yield listener.getsockname()[1]
        finally:
            stop.set()
            listener.shutdown(socket.SHUT_RDWR)


def test_a_server_that_drips_is_given_up_and_cut_off():
    with dripping_server() as port:
        config = CacheConfig(url=f"redis://127.0.0.1:{port}/0", timeout_s=0.1)
        with Encoder("m", backend="fake", cache=config) as encoder:
            started = time.monotonic()
            assert encoder.encode([f"text {n}" for n in range(600)]).shape == (600, 384)
            took = time.monotonic() - started
            assert encoder.stats().cache.tier.state == "down"
            thread = encoder._runtime.cache.tier._thread
            for _ in range(300):
                if thread._began is None:
                    break
                time.sleep(0.01)
            assert thread._began is None  # nothing is left that waits for the server
    assert took < 2


def test_a_locked_file_delays_a_hundred_threads_by_one_time_out(tmp_path):
    store = open_store(f"sqlite:///{tmp_path}/v.db", timeout_s=0.25, ttl_s=None)
    tier = guarded(store, timeout_s=0.25)
    took = []

    def call() -> None:
        started = time.monotonic()
        tier.get(KEYS)
        took.append(time.monotonic() - started)

    with contextlib.closing(sqlite3.connect(tmp_path / "v.db")) as other:
        other.execute("PRAGMA locking_mode=EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        threads = [threading.Thread(target=call) for _ in range(100)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(took) == 100
    assert max(took) < 1.5  # one after another it would be 25 s
    assert tier.stats().state == "down"
    tier.close()


def test_callers_that_wait_together_are_asked_for_together():
    store, hold = Unruly([]), threading.Event()
    asked = []

    def get(keys):
        hold.wait(5)
        asked.append(len(keys))
        return [made(key) for key in keys]

    store.get = get
    tier = guarded(store, timeout_s=5)
    found = {}
    threads = [threading.Thread(target=lambda key=key: found.update({key: tier.get([key])})) for key in KEYS]
    for thread in threads:
        thread.start()
        while not tier._thread._reads and tier._thread._began is None:
            time.sleep(0.001)
    hold.set()
    for thread in threads:
        thread.join()
    tier.close()
    assert found == {key: [entry(key)] for key in KEYS}
    assert len(asked) < 6
