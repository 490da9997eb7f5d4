"""Ctrl-C at every place of a call, and any exception on the threads behind it: what comes later finds all in order."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import time
from contextlib import suppress
from functools import partial

import numpy as np
import pytest
from tqdm import tqdm

from nimbed import Encoder
from nimbed._promise import Promise
from nimbed._text import checks
from nimbed.errors import BackendError, EncodeTimeoutError
from tests.support.interrupting import NIMBED, Interrupt

WAIT_S = 5
TEXTS = [f"text {n}" for n in (0, 1, 0, 2, 3, 4, 1)]


def open_encoder(**settings) -> Encoder:
    """Its engine takes no time, and each of its vectors is one of ones."""
    encoder = Encoder("m", backend="fake", truncate="silent", **settings)
    runtime = encoder._opened()
    until(lambda: not runtime.scheduler._state.warm_up and runtime.scheduler._state.query_thread is None)
    for session in runtime.scheduler.sessions:
        session.run = lambda batch: np.ones((len(batch), 384), np.float32)
    return encoder


def until(condition, message: str | None = "it never came to that") -> None:
    end = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end, message
        time.sleep(0.0005)


def check(encoder: Encoder, again: list[str]) -> None:
    """The same texts, others, a query and documents, on this thread; and nothing is left of the call before."""
    encoder.encode(again)
    encoder.encode_query(again[0])
    encoder.encode(["another"])
    encoder.encode_query("another")
    for role in ("query", "document"):
        encoder.encode([f"{n} {role} {time.monotonic_ns()}" for n in range(6)], role=role)


def nothing_left(encoder: Encoder) -> bool:
    runtime = encoder._opened()
    return (
        all(limit.empty and not limit.waiting for limit in runtime.admission.values())
        and encoder.stats().queue_depth == 0
        and not (runtime.cache and runtime.cache._in_flight)
        and runtime.scheduler._state.query_thread is None
        and not runtime.scheduler._state.running
    )


def clear(encoder: Encoder) -> None:
    if cache := encoder._opened().cache:
        cache.close()


def everywhere(encoder: Encoder, call, again: list[str]) -> int:
    """Interrupt the call at each place in turn; how many there were."""
    for at in range(1, 10_000):
        interrupt = Interrupt(at)
        clear(encoder)
        try:
            with interrupt.within():
                call()
        except KeyboardInterrupt:
            assert interrupt.came
        else:
            assert not interrupt.came, f"{interrupt.place}: the interrupt was lost"
            return at - 1
        try:
            elsewhere(partial(check, encoder, again))
            check(encoder, again)
            until(lambda: nothing_left(encoder))
            cache = encoder._opened().cache
            assert cache is None or cache._bytes == sum(map(size_of, cache._entries.values()))
        except BaseException as err:
            raise AssertionError(f"after an interrupt at {interrupt.place}: {err!r}") from err
    raise AssertionError("there is no end of it")


def elsewhere(call) -> None:
    """On another thread: this one may hold a lock, for which that one would wait."""
    outcome: list[BaseException | None] = []

    def work() -> None:
        try:
            call()
        except BaseException as err:  # noqa: BLE001 (raised below)
            outcome.append(err)
        else:
            outcome.append(None)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(WAIT_S)
    assert outcome, "it hangs"
    if outcome[0] is not None:
        raise outcome[0]


def size_of(entry) -> int:
    return len(entry.row) + 300


def consume(encoder: Encoder) -> None:
    for _ in encoder.encode_iter(TEXTS):
        pass


CALLS = {
    "a query": lambda encoder: encoder.encode_query("text 0"),
    "documents": lambda encoder: encoder.encode(TEXTS),
    "with a timeout": lambda encoder: encoder.encode(TEXTS[:2], timeout_s=WAIT_S),
    "encode_iter": consume,
    "aencode": lambda encoder: asyncio.run(encoder.aencode(TEXTS)),
}


@pytest.mark.parametrize("blocks", ["one block", "blocks of two"])
@pytest.mark.parametrize("name", CALLS)
def test_an_interrupt_at_any_place_leaves_nothing(name, blocks, monkeypatch):
    if blocks != "one block":
        if name in {"a query", "with a timeout"}:
            pytest.skip("it is one block in any case")
        monkeypatch.setattr(checks, "_BLOCK_TEXTS", 2)
    monkeypatch.setattr(tqdm, "monitor_interval", 0)  # its thread is none of ours
    encoder = open_encoder()
    assert everywhere(encoder, partial(CALLS[name], encoder), TEXTS) > 100
    elsewhere(encoder.close)


def test_an_interrupt_of_what_an_interrupt_brought_about_leaves_nothing():
    told: list[str] = []
    promise: Promise[None] = Promise()

    def interrupted(_: Promise[None]) -> None:
        told.append("first")
        if len(told) == 1:
            raise KeyboardInterrupt

    promise.add_done_callback(interrupted)
    promise.add_done_callback(lambda _: told.append("second"))
    with pytest.raises(KeyboardInterrupt):
        promise.cancel()
    assert told == ["first", "first", "second"]


def test_an_interrupt_right_behind_an_outcome_leaves_nobody_untold():
    class Interrupting(dict):
        def setdefault(self, key, value):
            super().setdefault(key, value)
            raise KeyboardInterrupt

    told: list[Promise[None]] = []
    promise: Promise[None] = Promise()
    promise._outcome = Interrupting()
    promise.add_done_callback(told.append)
    with pytest.raises(KeyboardInterrupt):
        promise.cancel()
    assert promise.cancelled()
    assert told == [promise]


def test_an_interrupt_at_any_place_without_a_cache():
    encoder = open_encoder(cache=None)
    assert everywhere(encoder, lambda: encoder.encode(TEXTS), TEXTS) > 100
    elsewhere(encoder.close)


def test_an_interrupt_at_any_place_while_it_opens():
    before = set(threading.enumerate())
    for at in range(1, 10_000):
        interrupt = Interrupt(at, files=NIMBED)  # Python itself may leave a thread that never comes to its function
        encoder = None
        with suppress(KeyboardInterrupt), interrupt.within():
            encoder = Encoder("m", backend="fake")
        if encoder is not None:
            break
        assert interrupt.came
        gc.collect()
        until(lambda: not set(threading.enumerate()) - before, interrupt.place)
    encoder.close()
    assert at > 50


# The threads behind a call


class Stopped(BaseException):
    """What nobody expects on a thread."""


@pytest.mark.parametrize("role", ["query", "document"])
def test_any_exception_at_any_place_of_the_engines_thread_is_the_calls_own(role, caplog):
    encoder = open_encoder(cache=None)
    runtime = encoder._opened()
    runtime.scheduler.sessions[0].any_thread = False
    run = runtime.scheduler.sessions[0].run
    at, came = 0, True
    while came:
        at += 1
        interrupt = Interrupt(at, Stopped, files=NIMBED)

        def interrupted(batch, interrupt=interrupt):
            sys.setprofile(interrupt.profile)  # of the worker, until it waits again
            return run(batch)

        runtime.scheduler.sessions[0].run = interrupted
        try:
            assert encoder.encode(["one", "two"], role=role, timeout_s=WAIT_S).shape == (2, 384)
        except EncodeTimeoutError as err:
            raise AssertionError(interrupt.place) from err
        except BackendError:
            assert interrupt.came
        until(lambda: nothing_left(encoder), interrupt.place)
        interrupt.stop()
        runtime.scheduler.sessions[0].run = run
        elsewhere(partial(check, encoder, TEXTS))
        until(lambda: nothing_left(encoder), interrupt.place)
        came = interrupt.came
    assert at > 50
    assert "goes on" in caplog.text
    elsewhere(encoder.close)


async def test_any_exception_at_any_place_of_the_tokenizing_thread_is_the_calls_own(monkeypatch, caplog):
    encoder = open_encoder(cache=None)
    runtime = encoder._opened()
    tokenize = runtime.tokenize
    files = [file for file in NIMBED if not file.endswith("worker_thread.py")]  # of the job, not of what comes after it
    texts = [text + " and more" * 60 for text in TEXTS]  # short ones are the event loop's
    at, came = 0, True
    while came:
        at += 1
        interrupt = Interrupt(at, Stopped, files=files)

        def interrupted(*arguments, interrupt=interrupt):
            sys.setprofile(interrupt.profile)
            return tokenize(*arguments)

        monkeypatch.setattr(runtime, "tokenize", interrupted)
        try:
            assert (await asyncio.wait_for(encoder.aencode(texts), WAIT_S)).shape == (7, 384)
        except asyncio.TimeoutError as err:
            raise AssertionError(interrupt.place) from err
        except (Stopped, BackendError):
            assert interrupt.came
        interrupt.stop()
        monkeypatch.setattr(runtime, "tokenize", tokenize)
        assert (await asyncio.wait_for(encoder.aencode(texts), WAIT_S)).shape == (7, 384)
        until(lambda: nothing_left(encoder), interrupt.place)
        came = interrupt.came
    assert at > 10
    await asyncio.to_thread(encoder.close)
