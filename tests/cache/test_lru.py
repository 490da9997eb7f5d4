"""The LRU against a model of it, what is in flight, keys, and values that nobody can change."""

from __future__ import annotations

import threading
from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nimbed._cache.lru import Entry, Keys, VectorCache, Vectors, rows_of
from nimbed._promise import Promise

DIM = 3
ENTRY_BYTES = 4 * DIM + 300


def vectors_of(*values: float) -> Vectors:
    return Vectors(np.array([[v] * DIM for v in values], np.float32), np.zeros(len(values), np.int32))


def key(n: int) -> bytes:
    return n.to_bytes(16, "little")


def entries_of(numbers: list[int], *values: float) -> dict[bytes, Entry]:
    """By key, in the order in which each comes last."""
    entries: dict[bytes, Entry] = {}
    for number, value in zip(numbers, values, strict=True):
        entries.pop(key(number), None)
        entries[key(number)] = vectors_of(value).entry(0)
    return entries


def claimed(cache: VectorCache, *numbers: int, role="document"):
    promise: Promise[Vectors] = Promise()
    return promise, cache.claim([key(n) for n in numbers], promise, role)


operations = st.lists(
    st.tuples(st.sampled_from(["put", "peek", "claim"]), st.lists(st.integers(0, 8), min_size=1, max_size=4)),
    max_size=60,
)


@given(operations=operations, room=st.integers(0, 6))
@settings(deadline=None)
def test_exact_lru(operations, room):  # noqa: C901 (the model and the cache, step by step)
    cache = VectorCache(room * ENTRY_BYTES)
    model: OrderedDict[int, float] = OrderedDict()
    evictions = 0
    for step, (what, numbers) in enumerate(operations):
        if what == "put":
            cache.put(entries_of(numbers, *(step + n / 10 for n in numbers)))
            for n in numbers:
                model.pop(n, None)
                if room:
                    model[n] = step + n / 10
            while len(model) > room:
                model.popitem(last=False)
                evictions += 1
        elif what == "peek":
            found = cache.peek([key(n) for n in numbers])
            assert (found is not None) == all(n in model for n in numbers)
            if found is not None:
                np.testing.assert_allclose(rows_of(found, DIM)[:, 0], [model[n] for n in numbers], rtol=1e-6)
                for n in numbers:
                    model.move_to_end(n)
        else:
            promise, claim = claimed(cache, *numbers)
            promise.cancel()
            assert set(claim.entries) == {i for i, n in enumerate(numbers) if n in model}
            for n in numbers:
                if n in model:
                    model.move_to_end(n)
        stats = cache.stats()
        assert list(cache._entries) == [key(n) for n in model]
        assert (stats.entries, stats.bytes, stats.evictions) == (len(model), len(model) * ENTRY_BYTES, evictions)
        assert stats.bytes <= stats.limit_bytes


def test_values_cannot_be_changed_by_the_callers_hands():
    cache = VectorCache(10_000)
    given_vectors = vectors_of(1)
    cache.put({key(1): given_vectors.entry(0)})
    given_vectors.rows[:] = 9
    first = rows_of(cache.peek([key(1)]), DIM)
    assert first.tolist() == [[1, 1, 1]]
    first[:] = 7
    assert rows_of(cache.peek([key(1)]), DIM).tolist() == [[1, 1, 1]]


def test_equal_keys_are_computed_once():
    cache = VectorCache(10_000)
    promise, claim = claimed(cache, 1, 2, 1)
    _, other = claimed(cache, 2, 3)
    assert (claim.to_compute, list(claim.in_flight)) == ([0, 1], [2])
    assert (other.to_compute, list(other.in_flight)) == ([1], [0])
    assert (other.in_flight[0].promise, other.in_flight[0].position) == (promise, 1)
    cache.put(entries_of([1, 2], 1, 2))
    promise.set_result(vectors_of(1, 2))
    _, later = claimed(cache, 1, 2, 3)
    assert (list(later.entries), list(later.in_flight), later.to_compute) == ([0, 1], [2], [])
    stats = cache.stats()
    assert (stats.hits, stats.misses, stats.joined) == (2, 3, 3)


@pytest.mark.parametrize("end", ["cancel", "fail"])
def test_what_was_in_flight_and_ends_without_a_vector_is_computed_anew(end):
    cache = VectorCache(10_000)
    promise, _ = claimed(cache, 1)
    if end == "cancel":
        promise.cancel()
    else:
        promise.set_exception(ValueError("no"))
    _, claim = claimed(cache, 1)
    assert claim.to_compute == [0]


def test_a_query_does_not_wait_for_a_documents_turn():
    cache = VectorCache(10_000)
    claimed(cache, 1, role="document")
    query, claim = claimed(cache, 1, role="query")
    assert claim.to_compute == [0]
    for role in ("document", "query"):
        _, later = claimed(cache, 1, role=role)
        assert later.in_flight[0].promise is query


def test_an_entry_larger_than_the_cache_is_not_kept():
    cache = VectorCache(100)
    cache.put(entries_of([1], 1))
    assert cache.peek([key(1)]) is None
    assert cache.stats().bytes == 0


def test_many_threads():
    cache = VectorCache(20 * ENTRY_BYTES)
    wrong = []

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(300):
            numbers = rng.integers(0, 40, 5).tolist()
            promise, claim = claimed(cache, *numbers)
            for i, entry in claim.entries.items():
                if np.frombuffer(entry.row, np.float32)[0] != numbers[i]:
                    wrong.append(numbers[i])
            own = [numbers[i] for i in claim.to_compute]
            if seed % 2:
                cache.put(entries_of(own, *own))
                promise.set_result(vectors_of(*own))
            else:
                promise.cancel()

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert not cache._in_flight
    assert cache.stats().bytes == 20 * ENTRY_BYTES


texts = st.text(st.characters(), max_size=20)


@given(one=st.tuples(texts, texts, texts), other=st.tuples(texts, texts, texts))
def test_keys_differ_where_anything_differs(one, other):
    """The parts have their lengths before them: what one loses, its neighbour cannot gain unseen."""
    keys = [Keys(fingerprint, prompt)([text])[0] for fingerprint, prompt, text in (one, other)]
    assert (keys[0] == keys[1]) == (one == other)
    assert len(keys[0]) == 16


def test_key_of_a_lone_surrogate():
    assert Keys("f", "")(["\ud800"]) != Keys("f", "")(["?"])


def test_rows_are_joined_in_order():
    entries = [Entry(np.full(DIM, n, np.float32).tobytes(), 0) for n in (3, 1, 2)]
    rows = rows_of(entries, DIM)
    assert rows[:, 0].tolist() == [3, 1, 2]
    assert rows.flags.writeable
    assert rows_of([], DIM).shape == (0, DIM)
