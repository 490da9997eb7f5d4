"""The native engine's threads: fewer where the system gives no more, never on their caller's core, asleep when idle."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path

import numpy as np
import pytest

from nimbed._files.json import parse_json
from nimbed._loading.artefact import open_artefact
from nimbed._model_folder.safetensors import read_tensors
from nimbed._types import TokenBatch
from nimbed.backends import native, open_backend
from nimbed.backends.protocol import OpenRequest
from nimbed.backends.table import ENCODER_FILE
from nimbed.errors import BackendError

_native = pytest.importorskip("nimbed._native", reason="the native engine is not compiled here")
IDS, OFFSETS = np.int32([101, 2000, 3000, 102]), np.int32([0, 4])
linux = pytest.mark.skipif(sys.platform != "linux", reason="Linux's own calls")


@pytest.fixture(scope="module")
def parts(minilm_native):
    arrays, metadata = read_tensors(minilm_native / ENCODER_FILE)
    return parse_json(metadata["nimbed"]), arrays


@pytest.fixture(scope="module")
def model(parts):
    return _native.Model(*parts)


def in_a_new_process(minilm_native, code: str) -> str:
    """What the code prints; ``session(n)`` is a session of n threads, ``IDS`` and ``OFFSETS`` a batch."""
    head = f"""
import faulthandler, os, resource, sys, time
faulthandler.dump_traceback_later(60, exit=True)
import numpy as np
import nimbed
library = os.environ.get("NIMBED_NATIVE_LIBRARY")
if library:
    sys.path.insert(0, {str(Path(__file__).parents[2])!r})
    import tests.support.native_library
from nimbed import _native
from nimbed._files.json import parse_json
from nimbed._model_folder.safetensors import read_tensors
arrays, metadata = read_tensors({str(minilm_native / ENCODER_FILE)!r})
model = _native.Model(parse_json(metadata["nimbed"]), arrays)
session = lambda threads: _native.Session(model, threads, bulk=False)
IDS, OFFSETS = np.int32([101, 2000, 3000, 102]), np.int32([0, 4])
"""
    done = subprocess.run([sys.executable, "-c", head + code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


@linux
@pytest.mark.skipif("NIMBED_NATIVE_LIBRARY" in os.environ, reason="a sanitizer reserves more than the limit")
def test_fewer_threads_where_the_system_gives_no_more(minilm_native):
    """std::terminate before: a joinable thread was destroyed where the next one could not start."""
    found = in_a_new_process(
        minilm_native,
        """
expected = session(1).run(IDS, OFFSETS, None)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (40 << 20), resource.RLIM_INFINITY))
limited = session(64)
vectors = [limited.run(IDS, OFFSETS, None) for _ in range(20)]
print(1 <= limited.threads < 64, all((v == expected).all() for v in vectors))
""",
    )
    assert found == "True True"


def test_the_reasons_say_that_there_are_fewer(minilm_native, monkeypatch):
    class Limited(_native.Session):
        threads = 2

    monkeypatch.setattr(native, "Session", Limited)
    spec = open_artefact(minilm_native).manifest.spec
    backend = open_backend("native", OpenRequest(folder=minilm_native, spec=spec, precision="int8", threads=5))
    assert backend.reasons["threads"] == "2 of 5: the system gives no more threads"
    assert len(backend.bulk().sessions) == 2


@pytest.mark.parametrize("bulk", [False, True])
def test_a_run_that_ends_in_an_exception_leaves_nobody_waiting(bulk):
    assert not _native.testing.counts_as_running_after_exception(bulk)


def test_a_model_keeps_its_arrays_and_not_their_dictionary(parts):
    settings, arrays = parts
    own = {name: array.copy() for name, array in arrays.items()}
    alive = [weakref.ref(array) for array in own.values()]
    model = _native.Model(settings, own)
    expected = _native.Session(model, 1, bulk=False).run(IDS, OFFSETS, None)
    own.clear()
    gc.collect()
    assert all(one() is not None for one in alive)
    np.testing.assert_array_equal(_native.Session(model, 1, bulk=False).run(IDS, OFFSETS, None), expected)


def test_two_threads_in_one_session_are_refused(model):
    session = _native.Session(model, 1, bulk=False)
    long = TokenBatch.from_sequences([np.full(500, 2000, np.int32)] * 6)
    alone = session.run(long.ids, long.offsets, None)
    found: list[np.ndarray] = []
    first = threading.Thread(target=lambda: found.append(session.run(long.ids, long.offsets, None)))
    first.start()
    refused = 0
    while first.is_alive() and not refused:
        try:
            native.NativeSession({"document": session}).run(TokenBatch(ids=IDS, offsets=OFFSETS, type_ids=None))
        except BackendError as err:
            assert "another thread is using this session" in str(err)  # noqa: PT017
            refused += 1
    first.join()
    assert refused
    np.testing.assert_array_equal(found[0], alone)


@pytest.mark.parametrize("length", [0, (1 << 18) + 1, 1 << 20])
def test_no_longer_texts_than_attentions_sums_have_room_for(length, parts):
    settings, arrays = parts
    with pytest.raises(ValueError, match="max_length is no number from 1 to 262144"):
        _native.Model({**settings, "max_length": length}, arrays)


@pytest.mark.parametrize("settings", ["[]", "[" * 100_000, "null", "3", '"text"', "{", ""])
def test_settings_that_are_none_are_refused(settings, tmp_path, parts, minilm_native):
    from safetensors.numpy import save_file

    save_file({"words": np.zeros((1, 64), np.float32)}, tmp_path / ENCODER_FILE, metadata={"nimbed": settings})
    spec = open_artefact(minilm_native).manifest.spec
    with pytest.raises(BackendError, match=ENCODER_FILE):
        open_backend("native", OpenRequest(folder=tmp_path, spec=spec, precision="int8", threads=1))


@linux
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core")
def test_threads_keep_off_their_callers_core(minilm_native):
    """On a core with it they would wait for each other, which takes a time slice."""
    found = in_a_new_process(
        minilm_native,
        """
before = set(os.listdir("/proc/self/task"))
two = session(2)
(thread,) = set(os.listdir("/proc/self/task")) - before
cores, off = sorted(os.sched_getaffinity(0)), []
for core in cores:
    os.sched_setaffinity(0, {core})
    two.run(IDS, OFFSETS, None)
    off.append(core not in os.sched_getaffinity(int(thread)))
os.sched_setaffinity(int(thread), {cores[-1]})  # as an administrator may: it is not undone
for core in cores:
    os.sched_setaffinity(0, {core})
    two.run(IDS, OFFSETS, None)
    off.append(os.sched_getaffinity(int(thread)) == {cores[-1]})
print(all(off), len(off) == 2 * len(cores))
""",
    )
    assert found == "True True"


@linux
def test_more_threads_than_cores_may_run_anywhere(minilm_native):
    found = in_a_new_process(
        minilm_native,
        """
before = set(os.listdir("/proc/self/task"))
many = session(len(os.sched_getaffinity(0)) + 1)
many.run(IDS, OFFSETS, None)
threads = set(os.listdir("/proc/self/task")) - before
print(all(os.sched_getaffinity(int(one)) == os.sched_getaffinity(0) for one in threads))
""",
    )
    assert found == "True"


def test_expecting_changes_no_bit_and_may_come_at_any_time(model):
    session, other = _native.Session(model, 3, bulk=False), _native.Session(model, 1, bulk=False)
    expected = other.run(IDS, OFFSETS, None)
    over = threading.Event()

    def expect():
        while not over.is_set():
            session.expect()
            other.expect()
            time.sleep(0.0003)

    expecting = threading.Thread(target=expect)
    expecting.start()
    try:
        for pause_s in [0.0, 0.0, 0.0005, 0.003] * 25:
            time.sleep(pause_s)
            session.expect()
            np.testing.assert_array_equal(session.run(IDS, OFFSETS, None), expected)
    finally:
        over.set()
        expecting.join()


def test_no_thread_spins_while_idle(model):
    session = _native.Session(model, 2, bulk=False)
    session.run(IDS, OFFSETS, None)
    session.expect()  # for a batch that never comes
    time.sleep(0.1)
    before = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - before < 0.1
