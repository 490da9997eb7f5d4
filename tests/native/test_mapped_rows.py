"""A table of words that is read from its file: its pages are given back while texts are looked up."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from nimbed._model_folder.safetensors import read_tensors
from nimbed.backends.table import ENCODER_FILE

_native = pytest.importorskip("nimbed._native", reason="the native engine is not compiled here")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux tells what is resident")


@pytest.fixture
def network(minilm_native):
    arrays, metadata = read_tensors(minilm_native / ENCODER_FILE)
    return json.loads(metadata["nimbed"]), arrays


def resident(array: np.ndarray) -> int:
    """Bytes of the mapping that the array lies in."""
    inside = False
    for line in Path("/proc/self/smaps").read_text(encoding="utf-8").splitlines():
        name, *rest = line.split(maxsplit=5)
        if not name.endswith(":"):
            begin, end = (int(at, 16) for at in name.split("-"))
            inside = begin <= array.ctypes.data < end
        elif inside and name == "Rss:":
            return int(rest[0]) * 1024
    raise AssertionError("the array is not mapped")


def session(network, *, mapped):
    settings, arrays = network
    return _native.Session(_native.Model(settings, arrays, mapped), 2, False)


def run(session, *lengths):
    rng = np.random.default_rng(sum(lengths))
    texts = [rng.integers(1000, 29000, length) for length in lengths]
    return session.run(np.concatenate(texts).astype(np.int32), np.cumsum([0, *lengths]).astype(np.int32))


def test_its_pages_go_after_so_many_tokens_and_are_read_again(network):
    words, some = network[1]["words"], session(network, mapped=True)
    run(some, 40, 23)
    words.astype(int).sum()
    full = resident(words)
    assert full >= words.nbytes
    run(some, 1)
    assert resident(words) <= full - words.nbytes + (1 << 20)
    assert words.astype(int).any(axis=1).any()


def test_a_long_text_gives_them_back_before_its_end(network):
    words, some = network[1]["words"], session(network, mapped=True)
    run(some, 128)
    words.astype(int).sum()
    full = resident(words)
    run(some, 512)
    assert resident(words) <= full - words.nbytes + (1 << 20)


def test_vectors_are_those_of_a_resident_table(network):
    mapped, kept = session(network, mapped=True), session(network, mapped=False)
    for lengths in ((3,), (300, 200), (7, 60, 64, 512)):
        np.testing.assert_array_equal(run(mapped, *lengths), run(kept, *lengths))


def test_a_resident_table_stays(network):
    words, some = network[1]["words"], session(network, mapped=False)
    words.astype(int).sum()
    run(some, 300, 300)
    assert resident(words) >= words.nbytes
