"""Threads, event loops, pickles, forks and the end of the interpreter."""

from __future__ import annotations

import asyncio
import copy
import multiprocessing
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from nimbed import Encoder
from nimbed.errors import ClosedError

TEXTS = ["A cat sat on the mat.", "Dogs bark.", "Prices rose by two percent last year.", "Hello"]


@pytest.fixture(scope="module")
def int8(minilm_int8):
    with Encoder(minilm_int8, truncate="silent") as encoder:
        yield encoder


def embed(encoder: Encoder) -> np.ndarray:
    return encoder.encode(TEXTS)


def test_many_threads_share_one_encoder(int8, peps):
    texts = peps[:48]
    expected = int8.encode(texts)

    def work(seed: int) -> float:
        order = np.random.default_rng(seed).permutation(len(texts))[:12]
        got = int8.encode([texts[i] for i in order])
        return float((got * expected[order]).sum(1).min())

    with ThreadPoolExecutor(8) as pool:
        worst = min(pool.map(work, range(32)))
    assert worst >= 0.9999


async def test_the_loop_runs_while_texts_are_embedded(int8, peps):
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    ticker = asyncio.create_task(tick())
    vectors = await int8.aencode(peps[:200])
    ticker.cancel()
    assert vectors.shape == (200, 384)
    # A blocked loop would tick a handful of times, at the awaits themselves.
    assert ticks > 100


async def test_tasks_are_gathered_in_order(int8):
    got = await asyncio.gather(*(int8.aencode([text], role="query") for text in TEXTS * 5))
    expected = int8.encode(TEXTS * 5)
    assert (np.concatenate(got) * expected).sum(1).min() >= 0.9999


def test_several_loops_in_several_threads(int8):
    expected = int8.encode(TEXTS)

    def work(_: int) -> float:
        return float((asyncio.run(int8.aencode(TEXTS)) * expected).sum(1).min())

    with ThreadPoolExecutor(4) as pool:
        assert min(pool.map(work, range(8))) >= 0.9999


async def test_cancelling_leaves_the_encoder_usable(int8, peps):
    task = asyncio.create_task(int8.aencode(peps[:300]))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await int8.aencode(["still here"])).shape == (1, 384)


def test_pickle_opens_when_used(int8):
    other = pickle.loads(pickle.dumps(int8))
    assert other._runtime is None
    assert other.fingerprint == int8.fingerprint
    np.testing.assert_allclose(other.encode(TEXTS), int8.encode(TEXTS), atol=1e-4)
    other.close()


def test_deepcopy(int8):
    with copy.deepcopy(int8) as other:
        np.testing.assert_allclose(other.encode(TEXTS), int8.encode(TEXTS), atol=1e-4)


@pytest.mark.parametrize(
    "method",
    [
        pytest.param("fork", marks=pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="no fork here")),
        "spawn",
    ],
)
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_child_processes(int8, method):
    expected = int8.encode(TEXTS)
    with multiprocessing.get_context(method).Pool(2) as pool:
        for got in pool.map(embed, [int8, int8]):
            assert (got * expected).sum(1).min() >= 0.9999
    assert (int8.encode(TEXTS) * expected).sum(1).min() >= 0.9999


def test_inherited_by_fork_without_a_pickle():
    script = """
import os, sys
from nimbed import Encoder
encoder = Encoder("m", backend="fake")
before = encoder.encode(["one", "two"])
child = os.fork()
if child == 0:
    after = encoder.encode(["one", "two"])
    os._exit(0 if (before == after).all() and encoder.stats().texts == 2 else 1)
_, status = os.waitpid(child, 0)
sys.exit(os.waitstatus_to_exitcode(status))
"""
    if not hasattr(__import__("os"), "fork"):
        pytest.skip("no fork here")
    assert subprocess.run([sys.executable, "-c", script], timeout=60, check=False).returncode == 0


def test_the_interpreter_ends_with_an_open_encoder(minilm_int8):
    script = f"""
import threading
from nimbed import Encoder
encoder = Encoder({str(minilm_int8)!r})
threading.Thread(target=encoder.encode, args=(["word " * 50] * 64,), daemon=True).start()
print(encoder.encode(["x"]).shape)
"""
    done = subprocess.run([sys.executable, "-c", script], timeout=60, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "(1, 384)" in done.stdout


def test_close_while_others_wait(minilm_int8, peps):
    encoder = Encoder(minilm_int8, truncate="silent")
    outcomes: list[object] = []

    def work() -> None:
        try:
            outcomes.append(encoder.encode(peps[:200]).shape)
        except ClosedError as err:
            outcomes.append(type(err))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    encoder.close()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert len(outcomes) == 4
    assert set(outcomes) <= {ClosedError, (200, 384)}


def test_a_dropped_encoder_stops_its_threads():
    import gc

    others = set(threading.enumerate())  # some may end meanwhile
    encoder = Encoder("m", backend="fake")
    encoder.encode(["x"])
    own = set(threading.enumerate()) - others
    assert own
    del encoder
    gc.collect()
    assert not any(thread.is_alive() for thread in own)
