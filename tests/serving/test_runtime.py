"""What an open encoder holds, without the calls around it."""

from __future__ import annotations

import pickle
import threading
import weakref

import numpy as np
import pytest

from nimbed._cache.lru import Vectors
from nimbed._loading.engine import open_engine
from nimbed._loading.settings import CacheConfig, Settings
from nimbed._serving import fork
from nimbed._serving.runtime import Runtime
from nimbed.errors import ClosedError, InputError, TruncationError


class Listener:
    def __init__(self) -> None:
        self.heard = []

    def hear(self, record):
        self.heard.append(record)


LISTENER = Listener()


def make(cache: CacheConfig | None = None, listener: Listener = LISTENER, **more) -> Runtime:
    engine = open_engine(Settings(model="m", backend="fake", **more))
    return Runtime(engine, cache, weakref.WeakMethod(listener.hear))


@pytest.fixture
def runtime():
    made = make(CacheConfig(size_bytes=10**6), dim=16)
    made.start()
    yield made
    made.close()


def full(runtime: Runtime, *texts: str, role="document") -> Vectors:
    return runtime.compute_unqueued(runtime.tokenize(texts, role, range(len(texts))), role)


def test_unqueued_vectors_are_full_and_in_order(runtime):
    found = full(runtime, "a", "b", "a")
    assert found.rows.shape == (3, 384)
    np.testing.assert_array_equal(found.rows[0], found.rows[2])
    assert not np.array_equal(found.rows[0], found.rows[1])
    np.testing.assert_allclose(np.linalg.norm(found.rows, axis=1), 1, rtol=1e-6)


def test_a_caller_gets_dim_components_of_norm_1(runtime):
    found = runtime.for_caller(full(runtime, "a", "b"), first=0, shared=False)
    assert found.rows.shape == (2, 16)
    np.testing.assert_allclose(np.linalg.norm(found.rows, axis=1), 1, rtol=1e-6)


def test_the_cache_answers_only_where_it_has_all(runtime):
    vectors, keys = full(runtime, "a", "b"), runtime.keys("document")
    assert runtime.cached(["a", "b"], "document") is None
    runtime.cache.put({key: vectors.entry(n) for n, key in enumerate(keys(["a", "b"]))})
    found = runtime.cached(["b", "a"], "document")
    np.testing.assert_array_equal(found.rows, runtime.for_caller(vectors, first=0, shared=False).rows[::-1])
    assert runtime.cached(["a", "c"], "document") is None
    assert runtime.cached(["c", "a"], "document") is None
    assert runtime.cached([], "document") is None


def test_without_a_cache_nothing_is_cached():
    runtime = make(None)
    assert runtime.cached(["a"], "document") is None
    runtime.close()


def test_prompts_tell_the_roles_keys_apart():
    from nimbed.spec import SpecOverrides

    runtime = make(spec=SpecOverrides(prompts={"query": "query: "}))
    assert runtime.keys("query")(["a"]) != runtime.keys("document")(["a"])
    assert len(runtime.tokenize(["a"], "query", [0]).sequences[0]) > len(
        runtime.tokenize(["a"], "document", [0]).sequences[0]
    )
    runtime.close()


def test_a_cut_text_is_refused_by_its_own_number_where_the_policy_says_so():
    runtime = make(max_length=8, truncate="error")
    vectors = Vectors(np.ones((2, 384), np.float32), np.int32([0, 30]))
    with pytest.raises(TruncationError, match="41"):
        runtime.for_caller(vectors, first=40, shared=False)
    runtime.close()


def test_after_the_end_nothing_is_computed(runtime):
    tokens = runtime.tokenize(["a"], "query", [0])
    runtime.refuse_closed()
    runtime.close()
    runtime.close()
    for late in (runtime.refuse_closed, lambda: runtime.compute_unqueued(tokens, "query")):
        with pytest.raises(ClosedError):
            late()


def test_closing_ends_all_of_its_threads():
    before = set(threading.enumerate())
    runtime = make(CacheConfig())
    runtime.start()
    ran = threading.Event()
    for worker in runtime.tokenizing_threads.values():
        worker.put(ran.set)
    assert set(threading.enumerate()) > before
    runtime.close()
    assert set(threading.enumerate()) <= before


def test_a_forked_child_leaves_the_parents_engine_alone(monkeypatch):
    runtime = make()
    monkeypatch.setattr(runtime, "_process", fork._process + 1)
    monkeypatch.setattr(runtime.engine.backend, "close", lambda: pytest.fail("it is the parent's"))
    runtime.close()
    runtime.refuse_closed()
    monkeypatch.undo()
    runtime.close()


def test_batches_are_told_of_as_long_as_somebody_listens():
    listener = Listener()
    runtime = make(listener=listener)
    report = runtime.scheduler.runner._on_batch
    report("first")
    assert listener.heard == ["first"]
    heard = listener.heard
    del listener
    report("second")
    assert heard == ["first"]
    runtime.close()


# The shared tier


def tier_of(config: CacheConfig):
    runtime = make(config)
    try:
        return runtime.cache.tier and runtime.cache.tier.stats()
    finally:
        runtime.close()


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    for name in ("NIMBED_CACHE_KEY", "NIMBED_REDIS_URL"):
        monkeypatch.delenv(name, raising=False)


def test_there_is_a_tier_where_a_url_names_one(tmp_path):
    assert tier_of(CacheConfig()) is None
    found = tier_of(CacheConfig(url=f"sqlite:///{tmp_path}/v.db"))
    assert (found.name, found.state) == (f"sqlite:///{tmp_path}/v.db", "up")


def test_a_signed_tier_without_its_key_is_off(tmp_path, monkeypatch):
    config = CacheConfig(url=f"sqlite:///{tmp_path}/v.db", signed=True)
    assert tier_of(config).state == "off: its key is not written out; set NIMBED_CACHE_KEY"
    monkeypatch.setenv("NIMBED_CACHE_KEY", "k" * 16)
    assert tier_of(config).state == "up"


def test_a_child_takes_the_environments_url_for_one_whose_credentials_were_dropped(tmp_path, monkeypatch):
    copied = pickle.loads(pickle.dumps(CacheConfig(url="redis://:word@host")))
    off = tier_of(copied)
    assert (off.name, off.state[:4]) == ("redis://host", "off:")
    assert "NIMBED_REDIS_URL" in off.state
    monkeypatch.setenv("NIMBED_REDIS_URL", f"sqlite:///{tmp_path}/v.db")
    assert tier_of(copied).name == f"sqlite:///{tmp_path}/v.db"


def test_the_environments_url_is_checked_too(monkeypatch):
    copied = pickle.loads(pickle.dumps(CacheConfig(url="redis://:word@host")))
    monkeypatch.setenv("NIMBED_REDIS_URL", "redis://host?bogus=1")
    with pytest.raises(InputError, match="NIMBED_REDIS_URL: behind the"):
        make(copied)
