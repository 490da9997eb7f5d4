"""Many callers of one encoder: merged, cancelled, timed out, failed alone; and the cache seen from outside."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
import warnings
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nimbed import CacheConfig, Encoder, SpecOverrides
from nimbed._serving import runtime
from nimbed._serving.call import Call
from nimbed._serving.scheduler import Scheduler
from nimbed.errors import ClosedError, EncodeTimeoutError, InputError, TruncationError

WAIT_S = 20


class Held:
    """An encoder whose engine can be held before a batch, and that counts the sequences it ran."""

    def __init__(self, **settings) -> None:
        self.encoder = Encoder("m", backend="fake", truncate="silent", **settings)
        self.rows = 0
        self._lock = threading.Lock()
        self.go_on, self.reached = threading.Event(), threading.Event()
        self.go_on.set()
        for session in self.encoder._opened().scheduler.sessions:
            session.run = partial(self._held, session.run)
        time.sleep(0.05)  # the warm-up is over
        self.rows = 0

    def _held(self, run, batch):
        self.reached.set()
        assert self.go_on.wait(WAIT_S)
        with self._lock:
            self.rows += len(batch)
        return run(batch)

    def hold(self) -> threading.Thread:
        """Both workers are in the middle of a batch: one with a query that does not count, one with a document.

        The thread that is returned ends when both have ended.
        """
        self.go_on.clear()
        callers = []
        for role, text in (("query", "the plug"), ("document", "the first")):
            self.reached.clear()
            callers.append(threading.Thread(target=self.encoder.encode, args=([text],), kwargs={"role": role}))
            callers[-1].start()
            assert self.reached.wait(WAIT_S)
        self.rows = -1
        both = threading.Thread(target=lambda: [caller.join() for caller in callers])
        both.start()
        return both


@pytest.fixture
def held():
    made = []

    def make(**settings) -> Held:
        made.append(Held(**settings))
        return made[-1]

    yield make
    for one in made:
        one.go_on.set()
        one.encoder.close()


def until(condition) -> None:
    """Until another thread has come so far, where nothing tells of it."""
    for _ in range(WAIT_S * 200):
        if condition():
            return
        time.sleep(0.005)
    raise AssertionError("the other thread did not come so far")


def in_threads(*calls) -> list:
    results = [None] * len(calls)

    def work(n: int) -> None:
        try:
            results[n] = calls[n]()
        except Exception as err:  # noqa: BLE001 (the test looks at it)
            results[n] = err

    threads = [threading.Thread(target=work, args=(n,)) for n in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    return results


# The cache from outside


def test_a_text_is_computed_once():
    with Encoder("m", backend="fake") as encoder:
        first = encoder.encode(["a", "b", "a", "c", "b"])
        assert (first[0] == first[2]).all()
        assert (first[1] == first[4]).all()
        assert encoder.stats().cache.misses == 3
        assert encoder.stats().cache.joined == 2
        batches = encoder.stats().batches
        np.testing.assert_array_equal(encoder.encode(["c", "a"]), first[[3, 0]])
        np.testing.assert_array_equal(encoder.encode(["c", "new", "a"])[[0, 2]], first[[3, 0]])
        assert encoder.stats().cache.hits == 4
        assert encoder.stats().batches == batches + 1
        assert encoder.stats().texts == 10


def test_equal_texts_of_many_callers_at_once_are_computed_once(held):
    one = held()
    first = one.hold()
    results: list = []
    caller = threading.Thread(
        target=lambda: results.extend(in_threads(*[lambda: one.encoder.encode(["same", "too"])] * 8))
    )
    caller.start()
    until(lambda: one.encoder.stats().cache.joined >= 14)
    one.go_on.set()
    caller.join(WAIT_S)
    first.join(WAIT_S)
    assert one.rows == 3
    assert all((vectors == results[0]).all() for vectors in results)


def test_a_result_is_the_callers_own():
    with Encoder("m", backend="fake") as encoder:
        first = encoder.encode(["a", "a"])
        kept = first.copy()
        first[:] = 0
        again = encoder.encode(["a", "a"])
        np.testing.assert_array_equal(again, kept)
        again[0] = 5
        np.testing.assert_array_equal(encoder.encode(["a", "a"]), kept)
        query = encoder.encode_query("a")
        query[:] = 9
        np.testing.assert_array_equal(encoder.encode_query("a"), kept[0])


def test_no_cache():
    with Encoder("m", backend="fake", cache=None) as encoder:
        a = encoder.encode(["a", "a"])
        b = encoder.encode(["a"])
        assert (a[0] == b[0]).all()
        assert encoder.stats().cache is None
        assert encoder.stats().tokens == 3 * encoder.stats().tokens // 3 > 0


def test_a_cache_of_no_bytes_still_joins_equal_texts():
    with Encoder("m", backend="fake", cache=0) as encoder:
        encoder.encode(["a", "a"])
        stats = encoder.stats().cache
        assert (stats.entries, stats.joined, stats.limit_bytes) == (0, 1, 0)


def test_encode_iter_leaves_the_cache_to_the_calls():
    with Encoder("m", backend="fake") as encoder:
        vectors = np.concatenate(list(encoder.encode_iter([f"text {n}" for n in range(1500)])))
        assert encoder.stats().cache.entries == 0
        np.testing.assert_array_equal(encoder.encode(["text 7", "text 1400"]), vectors[[7, 1400]])


def test_truncation_is_told_of_also_when_the_cache_answers():
    long = "word " * 900
    with Encoder("m", backend="fake") as encoder:
        for _ in range(2):
            with pytest.warns(UserWarning, match=r"1 of the texts \(first: item 1\)"):
                encoder.encode(["short", long])
        assert encoder.stats().truncated == 2
        assert encoder.stats().cache.hits == 2


SETTINGS = {
    "backend": ["fake"],
    "max_length": [None, 8, 12],
    "truncate": ["silent", "chunk"],
    "dim": [None, 16, 32],
    "spec": [
        SpecOverrides(), SpecOverrides(prompts={"query": "q: "}), SpecOverrides(prompts={"document": "q: "}),
        SpecOverrides(prompts={"query": "q", "document": ": "}), SpecOverrides(normalize=True),
    ],
}  # fmt: skip
COMBINATIONS = [dict(zip(SETTINGS, values, strict=True)) for values in itertools.product(*SETTINGS.values())]
SOME_TEXTS = ["a", "q: a", ": a", "one two three four five six seven eight nine ten eleven twelve thirteen", ""]


@pytest.fixture(scope="module")
def references():
    found = {}
    for n, combination in enumerate(COMBINATIONS):
        with Encoder("m", cache=None, **combination) as encoder:
            found[n] = {role: encoder.encode(SOME_TEXTS, role=role) for role in ("document", "query")}
    return found


@pytest.mark.parametrize("kind", ["process", "sqlite", "redis"])
def test_no_setting_gets_anothers_vector(kind, references, tmp_path, request):
    """One shared place, every combination of settings and roles through it, twice: never another's vector."""
    if kind == "redis":
        from tests.support.redis_server import redis_server

        server = redis_server(tmp_path)
        request.addfinalizer(server.kill)
        cache = CacheConfig(url=server.url)
    else:
        cache = CacheConfig(url=f"sqlite:///{tmp_path}/v.db" if kind == "sqlite" else None)
    order = np.random.default_rng(0).permutation(len(COMBINATIONS))
    hits = 0
    for _ in range(2):
        for n in order:
            with Encoder("m", cache=cache, **COMBINATIONS[n]) as encoder:
                for role in ("query", "document", "query"):
                    np.testing.assert_array_equal(encoder.encode(SOME_TEXTS, role=role), references[n][role])
                stats = encoder.stats().cache
                hits += stats.hits if kind == "process" else stats.tier.hits
    assert hits > len(COMBINATIONS) * len(SOME_TEXTS)


def test_no_model_gets_anothers_vector(tiny_onnx, minilm_int8, tmp_path):
    """The same for weights, backend, precision and pooling, through one file."""
    cache = f"sqlite:///{tmp_path}/v.db"
    makers = {
        "int8": {"model": minilm_int8, "max_length": 32},
        "int8 longer": {"model": minilm_int8, "max_length": 33},
        "tiny cls fp32": {"model": tiny_onnx, "precision": "fp32", "spec": SpecOverrides(pooling="cls")},
        "tiny mean fp32": {"model": tiny_onnx, "precision": "fp32", "spec": SpecOverrides(pooling="mean")},
        "tiny mean int8": {"model": tiny_onnx, "precision": "int8", "spec": SpecOverrides(pooling="mean")},
        "fake": {"model": "m", "backend": "fake", "dim": 32},
    }
    found, fingerprints = {}, set()
    for _ in range(2):
        for name, chosen in makers.items():
            with Encoder(cache=cache, truncate="silent", **chosen) as encoder:
                vectors = encoder.encode(SOME_TEXTS[:4])
                fingerprints.add(encoder.fingerprint)
                np.testing.assert_array_equal(found.setdefault(name, vectors), vectors)
                with Encoder(cache=None, truncate="silent", **chosen) as reference:
                    np.testing.assert_allclose(vectors, reference.encode(SOME_TEXTS[:4]), atol=2e-3)
    assert len(fingerprints) == len(makers)


@given(
    calls=st.lists(
        st.tuples(st.lists(st.sampled_from("abcdefgh"), max_size=5), st.sampled_from(["document", "query"])),
        max_size=12,
    ),
    size=st.sampled_from([0, 2000, 10**6]),
)
@settings(deadline=None, max_examples=30)
def test_any_calls_through_any_cache_give_the_vectors_of_none(calls, size):
    spec = SpecOverrides(prompts={"query": "b"})
    with (
        Encoder("m", backend="fake", cache=size, spec=spec) as cached,
        Encoder("m", backend="fake", cache=None, spec=spec) as plain,
    ):
        for texts, role in calls:
            np.testing.assert_array_equal(cached.encode(texts, role=role), plain.encode(texts, role=role))


# Waiting, giving up, failing


def test_a_full_queue_blocks_and_times_out_with_its_own_error(held):
    one = held(cache=None)
    first = one.hold()
    one.encoder._opened().admission["document"]._limit = 1100
    filler = threading.Thread(target=one.encoder.encode, args=(["x" * 900],))
    filler.start()
    until(lambda: one.encoder.stats().queue_depth >= 1)
    with pytest.raises(EncodeTimeoutError) as caught:
        one.encoder.encode(["y" * 900], timeout_s=0.1)
    assert isinstance(caught.value, TimeoutError)
    waiting = threading.Thread(target=one.encoder.encode, args=(["z" * 900],))
    waiting.start()
    one.go_on.set()
    for thread in (first, filler, waiting):
        thread.join(WAIT_S)
        assert not thread.is_alive()
    assert one.rows == 3


def test_a_slow_engine_times_out_too_and_the_work_is_taken_out(held):
    one = held()
    first = one.hold()
    with pytest.raises(EncodeTimeoutError, match="timeout_s"):
        one.encoder.encode_query("late", timeout_s=0.05)
    one.go_on.set()
    first.join(WAIT_S)
    assert one.encoder.encode_query("late").shape == (384,)
    assert one.rows == 2


async def test_a_full_queue_makes_tasks_wait_without_blocking_the_loop(held):
    one = held(cache=None)
    first = one.hold()
    one.encoder._opened().admission["document"]._limit = 1100
    tasks = [asyncio.create_task(one.encoder.aencode([f"{n}" * 900])) for n in range(4)]
    await asyncio.sleep(0.05)
    assert one.encoder._opened().admission["document"].waiting >= 2
    tasks[2].cancel()
    one.go_on.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(r, asyncio.CancelledError) for r in results] == [False, False, True, False]
    await asyncio.to_thread(first.join, WAIT_S)
    assert one.rows == 4
    assert one.encoder._opened().admission["document"]._amount == 0


async def test_cancelling_a_task_takes_its_unstarted_work_out(held):
    one = held()
    first = one.hold()
    gone = asyncio.create_task(one.encoder.aencode([f"text {n}" for n in range(2000)]))
    kept = asyncio.create_task(one.encoder.aencode(["kept"]))
    await asyncio.sleep(0.1)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    one.go_on.set()
    assert (await kept).shape == (1, 384)
    await asyncio.to_thread(first.join, WAIT_S)
    assert one.rows == 2


async def joined(one):
    """Two tasks that want one text of a held engine: who computes it, and who joined."""
    leader = asyncio.create_task(one.encoder.aencode(["same"]))
    await asyncio.sleep(0.05)
    joiner = asyncio.create_task(one.encoder.aencode(["same"]))
    await asyncio.sleep(0.05)
    return leader, joiner


async def test_who_joined_a_cancelled_call_still_gets_its_vector(held):
    one = held()
    first = one.hold()
    leader, joiner = await joined(one)
    assert one.encoder.stats().cache.joined == 1
    leader.cancel()
    one.go_on.set()
    assert (await joiner).shape == (1, 384)
    await asyncio.to_thread(first.join, WAIT_S)


async def test_cancelling_who_joined_leaves_the_leader_alone(held):
    one = held()
    first = one.hold()
    leader, joiner = await joined(one)
    joiner.cancel()
    await asyncio.sleep(0.05)
    one.go_on.set()
    assert (await leader).shape == (1, 384)
    await asyncio.to_thread(first.join, WAIT_S)


def test_a_text_that_cannot_be_used_fails_its_own_call_by_its_number():
    with Encoder("m", backend="fake", truncate="error", max_length=8) as encoder:
        encoder.encode(["fine", "good"])
        with pytest.raises(TruncationError, match="item 2"):
            encoder.encode(["fine", "good", "word " * 20])
        with pytest.raises(TruncationError, match="item 700"):
            encoder.encode([f"n {n}" for n in range(700)] + ["word " * 20])
        with pytest.raises(InputError, match="item 1 is not valid Unicode"):
            encoder.encode(["fine", "\ud800"])
        assert encoder._opened().admission["document"]._amount == 0
        assert not encoder._opened().cache._in_flight


def test_a_text_that_makes_the_engine_fail_fails_only_its_own_caller(held):
    one = held(cache=None)
    poison = one.encoder._opened().engine.tokenizer(["poison"]).sequences[0].tobytes()

    def picky(run, batch):
        parts = [batch.ids[a:b].tobytes() for a, b in itertools.pairwise(batch.offsets)]
        if poison in parts:
            raise RuntimeError("poisoned")
        return run(batch)

    first = one.hold()
    for session in one.encoder._opened().scheduler.sessions:
        session.run = partial(picky, session.run)
    calls = [lambda text=text: one.encoder.encode([text]) for text in ("a", "poison", "b")]
    results: list = []
    caller = threading.Thread(target=lambda: results.extend(in_threads(*calls)))
    caller.start()
    until(lambda: one.encoder.stats().queue_depth >= 3)
    one.go_on.set()
    caller.join(WAIT_S)
    first.join(WAIT_S)
    assert [getattr(r, "shape", str(r)) for r in results] == [(1, 384), "poisoned", (1, 384)]


def test_close_ends_all_that_wait(held):
    one = held()
    first = one.hold()
    one.encoder._opened().admission["document"]._limit = 100
    results: list = []
    caller = threading.Thread(
        target=lambda: results.extend(in_threads(*[lambda n=n: one.encoder.encode([f"{n}" * 90]) for n in range(4)]))
    )
    caller.start()
    until(lambda: one.encoder._opened().admission["document"].waiting >= 3)
    threading.Timer(0.1, one.go_on.set).start()
    one.encoder.close()
    caller.join(WAIT_S)
    first.join(WAIT_S)
    assert all(isinstance(r, ClosedError) for r in results)


async def test_several_loops_in_several_threads_at_once():
    with Encoder("m", backend="fake") as encoder:
        expected = {n: encoder.encode([f"text {n}"], role="query") for n in range(40)}
        fresh = Encoder("m", backend="fake", cache=0)

        async def many(seed: int) -> bool:
            order = np.random.default_rng(seed).permutation(40)
            found = await asyncio.gather(*(fresh.aencode([f"text {n}"], role="query") for n in order))
            return all((vectors == expected[n]).all() for n, vectors in zip(order, found, strict=True))

        results = await asyncio.gather(*(asyncio.to_thread(lambda s=s: asyncio.run(many(s))) for s in range(6)))
        assert results == [True] * 6
        assert threading.active_count() < 40
        fresh.close()


def test_uvloop():
    uvloop = pytest.importorskip("uvloop")
    with Encoder("m", backend="fake") as encoder:

        async def many():
            return await asyncio.gather(*(encoder.aencode([f"text {n}"]) for n in range(50)))

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            found = uvloop.run(many())
        np.testing.assert_array_equal(np.concatenate(found), encoder.encode([f"text {n}" for n in range(50)]))


def test_a_loop_that_closed_meanwhile_harms_nobody(held):
    one = held()
    first = one.hold()

    async def leave() -> None:
        task = asyncio.create_task(one.encoder.aencode(["left behind"]))
        await asyncio.sleep(0.05)
        task.cancel()

    asyncio.run(leave())
    one.go_on.set()
    first.join(WAIT_S)
    assert one.encoder.encode(["after"]).shape == (1, 384)


async def test_an_unpickled_copy_opens_off_the_loop(monkeypatch):
    import pickle

    with Encoder("m", backend="fake") as encoder:
        copied = pickle.loads(pickle.dumps(encoder))
    opened_on = []
    opened = Encoder._opened

    def spy(self):
        if self._runtime is None:
            opened_on.append(threading.current_thread())
        return opened(self)

    monkeypatch.setattr(Encoder, "_opened", spy)
    assert (await copied.aencode(["a"])).shape == (1, 384)
    assert threading.main_thread() not in opened_on
    copied.close()


# Counting


def test_stats_is_frozen_and_counts():
    with Encoder("m", backend="fake") as encoder:
        encoder.encode(["a", "bb ccc"])
        for _ in range(3):
            encoder.encode_query("a question")
        stats = encoder.stats()
        assert (stats.texts, stats.queue_depth) == (5, 0)
        assert set(stats.latency_ms) == {"document", "query"}
        for latency in stats.latency_ms.values():
            assert 0 < latency.p50 <= latency.p99
        assert 0 <= stats.padding_waste < 1
        with pytest.raises(AttributeError):
            stats.texts = 0
        with pytest.raises(AttributeError):
            stats.cache.hits = 0


def test_hooks_hear_of_each_batch_until_they_are_taken_away():
    records = []
    with Encoder("m", backend="fake") as encoder:
        stop = encoder.on_batch(records.append)
        encoder.encode(["a", "b c"])
        encoder.encode_query("q")
        assert [(r.role, r.rows) for r in records] == [("document", 2), ("query", 1)]
        assert sum(r.tokens for r in records) == encoder.stats().tokens
        assert sum(r.padded_tokens for r in records) == encoder.stats().padded_tokens
        stop()
        encoder.encode(["d"])
        assert len(records) == 2


def test_a_hook_that_raises_stops_nothing(caplog):
    with Encoder("m", backend="fake") as encoder:
        encoder.on_batch(lambda _: 1 // 0)
        heard = []
        encoder.on_batch(heard.append)
        assert encoder.encode(["a"]).shape == (1, 384)
        assert encoder.encode(["b"]).shape == (1, 384)
    assert len(heard) == 2
    assert len([r for r in caplog.records if "hook failed" in r.getMessage()]) == 1


def test_a_time_limit_bounds_the_tokenizing_of_a_long_text_too(monkeypatch):
    with Encoder("m", backend="fake", truncate="silent") as encoder:
        runtime, go_on = encoder._opened(), threading.Event()
        tokenize = runtime.tokenize
        monkeypatch.setattr(runtime, "tokenize", lambda *said: go_on.wait(WAIT_S) and tokenize(*said))
        started = time.monotonic()
        with pytest.raises(EncodeTimeoutError):
            encoder.encode(["word " * 100_000], timeout_s=0.1)
        assert time.monotonic() - started < WAIT_S / 2
        go_on.set()
        assert encoder.encode(["word " * 100_000], timeout_s=WAIT_S).shape == (1, 384)


class Gone(BaseException):
    """What ends more than a call."""


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, Gone])
def test_a_hook_that_raises_anything_stops_nothing_on_the_engines_thread(error, caplog):
    def hook(_):
        raise error

    with Encoder("m", backend="fake", cache=None) as encoder:
        for role in ("document", "query"):
            encoder.on_batch(hook)
            assert encoder.encode(["a"], role=role, timeout_s=WAIT_S).shape == (1, 384)
            assert encoder.encode(["b"], role=role, timeout_s=WAIT_S).shape == (1, 384)
    assert len([r for r in caplog.records if "hook failed" in r.getMessage()]) == 2


def test_an_interrupt_within_a_hook_on_the_callers_thread_is_the_callers():
    def hook(_):
        raise KeyboardInterrupt

    with Encoder("m", backend="fake") as encoder:
        stop = encoder.on_batch(hook)
        with pytest.raises(KeyboardInterrupt):
            encoder.encode_query("a")
        stop()
        assert encoder.encode_query("a").shape == (384,)
        assert encoder.encode(["a"], timeout_s=WAIT_S).shape == (1, 384)


@pytest.mark.parametrize("timeout_s", [None, WAIT_S])
def test_a_hook_may_embed_and_close(timeout_s):
    found = []
    with Encoder("m", backend="fake", cache=None) as encoder, Encoder("m", backend="fake", cache=None) as plain:

        def hook(record):
            found.append((encoder.encode_query("within"), encoder.encode(["a", "b"]), record.rows))

        stop = encoder.on_batch(hook)
        encoder.encode(["x"], timeout_s=timeout_s)
        encoder.encode_query("y", timeout_s=timeout_s)
        stop()
        assert [rows for _, _, rows in found] == [1, 1]  # what a hook embeds is no batch
        for query, documents, _ in found:
            np.testing.assert_array_equal(query, plain.encode_query("within"))
            np.testing.assert_array_equal(documents, plain.encode(["a", "b"]))
        encoder.on_batch(lambda _: encoder.close())
        assert encoder.encode(["z"], timeout_s=timeout_s).shape == (1, 384)
        with pytest.raises(ClosedError):
            encoder.encode(["z"])


def test_what_a_hook_embeds_is_never_queued(monkeypatch):
    # Else an idle thread could run it as a batch, whose hook embeds again.
    queued = []
    submit = Scheduler.submit

    def seen(self, sequences, *args, **kwargs):
        queued.append(len(sequences))
        return submit(self, sequences, *args, **kwargs)

    monkeypatch.setattr(Scheduler, "submit", seen)
    with Encoder("m", backend="fake", cache=None) as encoder:
        encoder.on_batch(lambda _: [encoder.encode(["a", "b"]), encoder.encode_query("c"), encoder.encode(["d"] * 300)])
        encoder.encode(["x"], timeout_s=WAIT_S)
    assert queued == [1]


async def test_close_after_a_task_was_admitted_that_has_not_gone_on(held, monkeypatch):
    monkeypatch.setattr(runtime, "_CLOSE_S", 0.5)  # the task cannot go on: this is waited out
    one = held(cache=None)
    first = one.hold()
    limit = one.encoder._opened().admission["document"]
    limit._limit = 1000
    tasks = [asyncio.create_task(one.encoder.aencode([letter * 950])) for letter in "xy"]
    await asyncio.sleep(0.1)
    assert limit.waiting == 2
    one.go_on.set()
    until(lambda: limit.waiting < 2)  # without a turn of the loop
    one.encoder.close()
    for task in tasks:
        with pytest.raises(ClosedError):
            await asyncio.wait_for(task, WAIT_S)
    assert limit.empty
    await asyncio.to_thread(first.join, WAIT_S)


# Time-outs


@pytest.mark.parametrize("timeout_s", [-1, -0.0001, float("nan"), float("-inf"), "1", True, [1]])
def test_what_is_no_time_is_refused_before_anything_is_done(timeout_s):
    with Encoder("m", backend="fake") as encoder:
        encoder.encode(["known"])
        for call in (encoder.encode, encoder.encode_query):
            with pytest.raises(InputError, match="timeout_s="):
                call(["known"] if call == encoder.encode else "known", timeout_s=timeout_s)


@pytest.mark.parametrize("timeout_s", [float("inf"), 1e300, 1e9, 20, np.float32(20)])
def test_any_other_time_is_waited_for(timeout_s):
    with Encoder("m", backend="fake") as encoder:
        assert encoder.encode(["a", "b"], timeout_s=timeout_s).shape == (2, 384)
        assert encoder.encode_query("a", timeout_s=timeout_s).shape == (384,)


def test_tokens_are_counted_whoever_computed_them():
    with Encoder("m", backend="fake") as encoder:
        runtime = encoder._opened()
        first = Call(runtime, ["ab", "abc", "ab"], "document")
        first.result()
        assert first.all_tokenized is False  # the second "ab" is in flight elsewhere, in this very call
        assert first.tokens() == [4, 5, 4]
        again = Call(runtime, ["ab", "new"], "document")
        again.result()
        assert again.tokens() == [4, 5]
        alone = Call(runtime, ["another"], "document")
        alone.result()
        assert alone.all_tokenized
        assert alone.tokens() == [9]


@pytest.mark.parametrize(
    ("text", "tier", "on_thread"), [("short", False, 0), ("x" * 600, False, 1), ("short", True, 1)]
)
async def test_a_task_leaves_to_a_thread_what_takes_long(text, tier, on_thread, tmp_path):
    cache = CacheConfig(url=f"sqlite:///{tmp_path}/tier.db") if tier else None
    with Encoder("m", backend="fake", cache=cache, truncate="silent") as encoder:
        thread, put = encoder._opened().tokenizing_threads["document"], []
        real = thread.put
        thread.put = lambda work: (put.append(work), real(work))
        assert (await encoder.aencode([text])).shape == (1, 384)
        assert len(put) == on_thread
