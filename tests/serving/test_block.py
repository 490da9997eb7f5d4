"""Some texts of a call: whatever the caches have of them, their vectors are those of no cache."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nimbed._cache.lru import VectorCache
from nimbed._loading.engine import open_engine
from nimbed._loading.settings import Settings
from nimbed._serving.block import Block
from nimbed._serving.runtime import Runtime
from nimbed.errors import ClosedError, NimbedError

WAIT_S = 20
TEXTS = [f"text {n}" for n in range(6)]


class Listener:
    def hear(self, record):
        pass


LISTENER = Listener()


class Tier:
    """A shared tier in this process."""

    def __init__(self) -> None:
        self.entries = {}
        self.asked = []

    def get(self, keys):
        self.asked.append(list(keys))
        return [self.entries.get(key) for key in keys]

    def put(self, entries):
        self.entries.update(entries)

    def close(self):
        pass


@pytest.fixture(scope="module")
def runtime():
    made = Runtime(open_engine(Settings(model="m", backend="fake")), None, weakref.WeakMethod(LISTENER.hear))
    made.start()
    yield made
    made.close()


@pytest.fixture
def tiered(runtime):
    """The same engine with a cache and a tier of the test's own."""
    runtime.cache = VectorCache(10**6, Tier())
    yield runtime
    runtime.cache = None


def run(runtime: Runtime, texts, **more) -> Block:
    block = Block(runtime, texts, "document", 0, **more)
    assert block.enter() is None
    block.start()
    block.promise.wait(WAIT_S)
    return block


def plain(runtime: Runtime, texts):
    tokens = runtime.tokenize(texts, "document", range(len(texts)))
    return runtime.compute_unqueued(tokens, "document").rows


some = st.lists(st.sampled_from(TEXTS), max_size=5, unique=True)


@given(in_cache=some, in_tier=some, texts=some, keep=st.booleans(), share=st.booleans(), inline=st.booleans())
@settings(deadline=None, max_examples=60)
def test_vectors_are_those_of_no_cache_and_new_ones_are_kept(runtime, in_cache, in_tier, texts, keep, share, inline):
    runtime.cache, runtime_keys = VectorCache(10**6, tier := Tier()), runtime.keys("document")
    try:
        for known, put in ((in_cache, runtime.cache.put), (in_tier, tier.put)):
            if known:
                vectors = runtime.compute_unqueued(runtime.tokenize(known, "document", range(len(known))), "document")
                put({key: vectors.entry(n) for n, key in enumerate(runtime_keys(known))})
        block = Block(runtime, texts, "document", 0, keep=keep, share=share)
        assert block.enter() is None
        block.start(inline=inline)
        found = block.promise.result(WAIT_S)
        np.testing.assert_array_equal(found.rows, plain(runtime, texts) if texts else np.empty((0, 384)))
        assert found.cut.tolist() == [0] * len(texts)
        kept = {text for text in texts if runtime_keys([text])[0] in runtime.cache}
        assert kept == {text for text in texts if text in in_cache or (keep and share)}
        shared = {text for text in texts if runtime_keys([text])[0] in tier.entries}
        assert shared == {text for text in texts if text in in_tier or (share and text not in in_cache)}
    finally:
        runtime.cache = None


def test_the_tier_is_asked_only_for_what_the_cache_has_not(tiered):
    run(tiered, TEXTS[:2])
    run(tiered, TEXTS[:3])
    run(tiered, TEXTS[:3])
    keys = tiered.keys("document")
    assert tiered.cache.tier.asked == [keys(TEXTS[:2]), keys(TEXTS[2:3])]


def test_a_text_that_is_in_flight_is_left_to_who_computes_it(tiered):
    ahead = Block(tiered, TEXTS[:1], "document", 0)
    tiered.cache.claim(tiered.keys("document")(TEXTS[:1]), ahead.promise, "document")
    block = run(tiered, TEXTS[:2])
    assert list(block.claim.in_flight) == [0]
    assert block.claim.to_compute == [1]
    np.testing.assert_array_equal(block.promise.result(0).rows[1], plain(tiered, TEXTS[1:2])[0])
    ahead.promise.cancel()


def test_equal_texts_are_computed_once(tiered):
    block = run(tiered, ["a", "b", "a"])
    assert block.claim.to_compute == [0, 1]
    assert list(block.claim.in_flight) == [2]


def test_weight_grows_with_characters_and_texts(runtime):
    weights = [Block(runtime, texts, "query", 0).weight for texts in ([], ["abc"], ["abc", ""], ["abcd"])]
    assert weights[0] == 0
    assert weights[2] == 2 * weights[1] - 3
    assert weights[3] == weights[1] + 1


def test_room_is_taken_by_who_enters_and_released_at_any_end(runtime):
    limit = runtime.admission["document"]
    done, failed = Block(runtime, ["a"], "document", 0), Block(runtime, ["b"], "document", 0)
    for block in (done, failed):
        assert block.enter() is None
    assert not limit.empty
    done.start()
    done.promise.wait(WAIT_S)
    assert not limit.empty
    failed.promise.set_exception(ValueError())
    assert limit.empty


def test_who_gave_up_is_not_started(runtime, monkeypatch):
    monkeypatch.setattr(runtime, "tokenize", lambda *_: pytest.fail("nobody waits for it"))
    block = Block(runtime, ["a"], "document", 0)
    block.promise.cancel()
    block.start()


def test_what_goes_wrong_is_the_promises(runtime, monkeypatch):
    def closed():
        raise ClosedError("closed meanwhile")

    monkeypatch.setattr(runtime, "refuse_closed", closed)
    assert isinstance(run(runtime, ["a"]).promise.exception(), ClosedError)


def test_an_interrupt_ends_the_call_and_the_promise(runtime, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(runtime, "tokenize", interrupted)
    block = Block(runtime, ["a"], "document", 0)
    with pytest.raises(KeyboardInterrupt):
        block.start()
    assert isinstance(block.promise.exception(), KeyboardInterrupt)


def test_a_text_that_cannot_be_used_is_named_by_its_number_in_the_call(runtime, monkeypatch):
    numbers = []
    tokenize = runtime.tokenize
    monkeypatch.setattr(
        runtime, "tokenize", lambda texts, role, items: numbers.append(items) or tokenize(texts, role, items)
    )
    block = Block(runtime, ["a", "b"], "document", 40)
    block.start()
    block.promise.wait(WAIT_S)
    assert numbers == [[40, 41]]
    assert not isinstance(block.promise.exception(), NimbedError)
