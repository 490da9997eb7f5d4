"""What happens to a whole process: signals, forks that Python does not see, threads that cannot start, the end."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

OPENED = """
import asyncio, ctypes, os, signal, sys, threading, time
import numpy as np
from nimbed import Encoder
from nimbed.errors import *
encoder = Encoder("m", backend="fake", truncate="silent")
"""
needs_signals = pytest.mark.skipif(not hasattr(__import__("signal"), "setitimer"), reason="no such signals here")
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")


def run(script: str, timeout_s: float = 60) -> str:
    """What a process of its own printed, which ended well and in time."""
    command = [sys.executable, "-X", "faulthandler", "-c", OPENED + textwrap.dedent(script)]
    done = subprocess.run(command, timeout=timeout_s, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


# Signals


@needs_signals
@pytest.mark.parametrize(
    "what",
    [
        "encoder.stats()",
        "assert encoder.encode_query('text 1').shape == (384,)",
        "assert encoder.encode(['signal', f'text {time.time()}']).shape == (2, 384)",
    ],
)
def test_a_signal_handler_that_uses_the_encoder_never_waits_for_what_it_interrupted(what):
    out = run(f"""
    caught = 0
    def handler(*_):
        global caught
        caught += 1
        {what}
        signal.setitimer(signal.ITIMER_REAL, rng.uniform(0.0002, 0.002))
    rng = np.random.default_rng(0)
    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.002)
    n = 0
    while caught < 150:
        n += 1
        encoder.encode_query(f"text {{n}}")
        encoder.encode([f"text {{n}}", f"other {{n}}"])
        encoder.stats()
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    runtime = encoder._opened()
    assert all(limit.empty for limit in runtime.admission.values()) and not runtime.cache._in_flight
    print(encoder.encode_query("the end").shape)
    """)
    assert out == "(384,)\n"


@needs_signals
def test_a_signal_handler_that_closes_the_encoder_comes_back_and_all_ends():
    out = run("""
    rng = np.random.default_rng(0)
    def handler(*_):
        before = time.monotonic()
        encoder.close()
        assert time.monotonic() - before < 3
    signal.signal(signal.SIGALRM, handler)
    for _ in range(60):
        encoder = Encoder("m", backend="fake", truncate="silent")
        signal.setitimer(signal.ITIMER_REAL, rng.uniform(0.0005, 0.01))
        try:
            for n in range(10**9):
                encoder.encode_query(f"text {n}")
                encoder.encode([f"text {n}", f"other {n}"])
                encoder.stats()
        except ClosedError:
            pass
    until = time.monotonic() + 10
    while threading.active_count() > 1 and time.monotonic() < until:
        time.sleep(0.01)
    print(threading.active_count())
    """)
    assert out == "1\n"


@needs_signals
def test_what_a_signal_handler_raises_while_a_call_waits_is_its_own():
    out = run("""
    go_on = threading.Event()
    for session in encoder._opened().scheduler.sessions:
        session.run = lambda batch: go_on.wait(20) and np.ones((len(batch), 384), np.float32)
    def handler(*_):
        raise TimeoutError("the user's")
    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        encoder.encode(["a", "b"], timeout_s=20)
    except TimeoutError as err:
        print(type(err).__name__, err)
    go_on.set()
    encoder.encode(["a", "b"])
    """)
    assert out == "TimeoutError the user's\n"


# Forks that Python does not see


@needs_fork
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_by_c_code_opens_the_model_anew():
    out = run("""
    texts = [f"text {n}" for n in range(2000)]
    expected, role = encoder.encode(texts), "query"
    asyncio.run(encoder.aencode(["the preparer's thread has started"] * 600))
    time.sleep(0.3)  # a thread that waits for the GIL just then would leave the child a GIL that nobody gives back
    child = ctypes.PyDLL(None).fork()
    if child == 0:
        signal.alarm(40)
        assert encoder.stats().texts == 0
        assert (encoder.encode(texts[:50]) == expected[:50]).all()
        assert (encoder.encode(texts) == expected).all()
        assert (asyncio.run(encoder.aencode(texts)) == expected).all()
        assert encoder.encode_query("one").shape == (384,)
        encoder.close()
        sys.exit(0)  # the interpreter's own end, with what the parent's encoder left to be done there
    _, status = os.waitpid(child, 0)
    assert (encoder.encode(texts) == expected).all()
    print(os.waitstatus_to_exitcode(status))
    """)
    assert out == "0\n"


@needs_fork
def test_a_fork_by_c_code_that_uses_nothing_ends():
    out = run("""
    child = ctypes.PyDLL(None).fork()
    if child == 0:
        signal.alarm(40)
        sys.exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """)
    assert out == "0\n"


# Threads that cannot start


NO_THREADS = """
start = threading.Thread.start
def none(thread):
    if thread.name.startswith("nimbed"):
        raise RuntimeError("can't start new thread")
    start(thread)
threading.Thread.start = none
"""


def test_no_thread_for_the_engine():
    out = run(
        NO_THREADS
        + """
try:
    Encoder("m", backend="fake")
except BackendError as err:
    print("pids.max" in str(err))
threading.Thread.start = start
print(Encoder("m", backend="fake").encode(["a"]).shape)
"""
    )
    assert out == "True\n(1, 384)\n"


def test_no_thread_to_tokenize_or_to_deliver():
    out = run(
        NO_THREADS
        + """
texts = [f"text {n} " * 30 for n in range(1500)]
print(encoder.encode(texts).shape)
for _ in range(2):
    try:
        asyncio.run(encoder.aencode(["new " * 200]))
    except BackendError as err:
        print("nimbed-tokenize-document" in str(err))
threading.Thread.start = start
print(asyncio.run(encoder.aencode(["new " * 200])).shape)
threading.Thread.start = none
encoder.close()
"""
    )
    assert out == "(1500, 384)\nTrue\nTrue\n(1, 384)\n"


@pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")
def test_no_room_for_another_thread():
    out = run("""
    import resource
    encoder.encode(["warm"])
    threading.stack_size(256 * 2**20)
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + 64 * 2**20, hard))
    for what in (lambda: asyncio.run(encoder.aencode(["new " * 200])), lambda: Encoder("m", backend="fake")):
        try:
            what()
        except BackendError as err:
            print("cannot be started" in str(err))
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
    threading.stack_size(0)
    print(asyncio.run(encoder.aencode(["new " * 200])).shape)
    """)
    assert out == "True\nTrue\n(1, 384)\n"


# The end


TOKENIZING = """
texts = ["word " * 200_000] * 4
async def late(encoder):
    try:
        await asyncio.wait_for(encoder.aencode(texts), 0.1)
    except asyncio.TimeoutError:
        print("late", flush=True)
class Slow:  # when the interpreter ends, a thread that comes out of the tokenizer finds it ending
    def __del__(self, sleep=time.sleep):
        sleep(1.5)
slow = Slow()
"""


@pytest.mark.parametrize(
    "end",
    [
        "asyncio.run(late(encoder))",
        "with encoder: asyncio.run(late(encoder))",
        "threading.Thread(target=encoder.encode, args=(texts,), daemon=True).start(); time.sleep(0.1); print('late')",
    ],
)
def test_the_interpreter_ends_while_a_block_is_tokenized(end):
    assert run(TOKENIZING + end) == "late\n"
