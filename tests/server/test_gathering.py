"""What comes together is computed together, and everybody gets their own."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimbed.errors import InputError
from nimbed.server.gathering import Computed, Gathering


class Recorder:
    """Computes lengths of texts, and keeps what it was asked for; what is held waits until it is let go."""

    def __init__(self, *, bad: str = "bad") -> None:
        self.calls: list[list[str]] = []
        self.cancelled: list[list[str]] = []
        self.go = asyncio.Event()
        self._bad = bad

    async def compute(self, items):
        self.calls.append(list(items))
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled.append(list(items))
            raise
        if self._bad in items:
            raise InputError(f"{self._bad} is among {len(items)}")
        rows = np.array([[float(len(item))] for item in items], np.float32)
        return Computed(rows, np.zeros(len(items), np.int32), [len(item) for item in items])


async def turns(count=5):
    for _ in range(count):
        await asyncio.sleep(0)


def asked(gathering, *lists):
    return [asyncio.ensure_future(gathering.compute(items)) for items in lists]


async def test_what_comes_alone_goes_alone_and_at_once():
    recorder = Recorder()
    gathering = Gathering(recorder.compute, characters=100)
    recorder.go.set()
    for items in (["a"], ["bb", "c"]):
        found = await gathering.compute(items)
        assert found.tokens == [len(item) for item in items]
    assert recorder.calls == [["a"], ["bb", "c"]]


async def test_what_comes_in_a_turn_beside_others_is_one_call():
    recorder = Recorder()
    gathering = Gathering(recorder.compute, characters=100)
    tasks = asked(gathering, ["a"], ["bb"], ["ccc", "dddd"], ["eeeee"])
    await turns()
    assert recorder.calls == [["a"], ["bb", "ccc", "dddd", "eeeee"]]
    recorder.go.set()
    found = await asyncio.gather(*tasks)
    assert [one.tokens for one in found] == [[1], [2], [3, 4], [5]]
    assert [one.rows.tolist() for one in found] == [[[1.0]], [[2.0]], [[3.0], [4.0]], [[5.0]]]
    assert all(len(one.cut) == len(one.rows) for one in found)
    assert (await gathering.compute(["f"])).tokens == [1]
    assert recorder.calls[2:] == [["f"]]


async def test_a_call_has_so_many_characters_at_most():
    recorder = Recorder()
    gathering = Gathering(recorder.compute, characters=5)
    tasks = asked(gathering, ["first"], ["aa"], ["bbb"], ["c"])
    await turns()
    assert recorder.calls == [["first"], ["aa", "bbb"], ["c"]]
    recorder.go.set()
    assert [one.tokens for one in await asyncio.gather(*tasks)] == [[5], [2], [3], [1]]


async def test_an_error_is_that_of_the_one_whose_it_is():
    recorder = Recorder()
    recorder.go.set()
    gathering = Gathering(recorder.compute, characters=100)
    found = await asyncio.gather(*asked(gathering, ["a"], ["bb"], ["bad", "c"], ["dddd"]), return_exceptions=True)
    assert [one.tokens for one in (found[0], found[1], found[3])] == [[1], [2], [4]]
    assert isinstance(found[2], InputError)
    assert str(found[2]) == "bad is among 2"


async def test_one_that_goes_away_leaves_the_others_theirs_and_the_last_ends_the_call():
    recorder = Recorder()
    gathering = Gathering(recorder.compute, characters=100)
    first, second, third = asked(gathering, ["a"], ["bb"], ["ccc"])
    await turns()
    second.cancel()
    await turns()
    assert recorder.cancelled == []
    third.cancel()
    await turns()
    assert recorder.cancelled == [["bb", "ccc"]]
    recorder.go.set()
    assert (await first).tokens == [1]
    assert second.cancelled()
    assert third.cancelled()


async def test_nothing_is_computed_for_those_who_went_before_it_began():
    recorder = Recorder()
    gathering = Gathering(recorder.compute, characters=100)
    first, second = asked(gathering, ["a"], ["bb"])
    await asyncio.sleep(0)
    second.cancel()
    await turns()
    assert recorder.calls == [["a"]]
    recorder.go.set()
    await first


def test_a_loop_that_ended_early_keeps_nobody_of_the_next_one():
    calls = []

    async def compute(items):
        calls.append(list(items))
        await asyncio.sleep(0.01 if len(calls) == 1 else 0)
        return Computed(np.zeros((len(items), 1), np.float32), np.zeros(len(items), np.int32), [1] * len(items))

    gathering = Gathering(compute, characters=100)

    async def leave():
        asked(gathering, ["a"], ["b"])
        await asyncio.sleep(0)  # the group was made, and has not begun

    asyncio.run(leave())

    async def ask():
        return await asyncio.wait_for(asyncio.gather(*asked(gathering, ["c"], ["d"])), 10)

    assert [one.tokens for one in asyncio.run(ask())] == [[1], [1]]


@given(
    st.lists(st.lists(st.text("ab", max_size=3), min_size=1, max_size=4), max_size=12),
    st.sets(st.integers(0, 11)),
    st.sets(st.integers(0, 11)),
    st.integers(1, 20),
)
def test_everybody_gets_their_own_whoever_fails_or_goes(lists, bad, gone, characters):
    async def run():
        recorder = Recorder()
        gathering = Gathering(recorder.compute, characters=characters)
        given_lists = [["bad", *items] if at in bad else items for at, items in enumerate(lists)]
        tasks = asked(gathering, *given_lists)
        await turns(1 + characters % 4)
        for at, task in enumerate(tasks):
            if at in gone:
                task.cancel()
        recorder.go.set()
        return given_lists, await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)

    for at, (items, found) in enumerate(zip(*asyncio.run(run()), strict=True)):
        if at in gone:
            assert isinstance(found, asyncio.CancelledError)
        elif at in bad:
            assert isinstance(found, InputError)
        else:
            assert found.tokens == [len(item) for item in items]
            assert found.rows[:, 0].tolist() == found.tokens


async def test_who_is_cancelled_with_the_loop_is_not_left_waiting():
    recorder = Recorder()
    gathering = Gathering(recorder.compute, characters=100)
    tasks = asked(gathering, ["a"], ["bb"])
    await turns()
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
    found = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)
    assert all(isinstance(one, asyncio.CancelledError) for one in found)


@pytest.mark.parametrize("part", [slice(0, 1), slice(1, 3)])
def test_a_part_of_what_was_computed(part):
    whole = Computed(np.arange(6, dtype=np.float32).reshape(3, 2), np.array([0, 9, 8], np.int32), [3, 9, 8])
    found = whole.of(part)
    assert found.tokens == whole.tokens[part]
    np.testing.assert_array_equal(found.rows, whole.rows[part])
    assert found.truncated == int((whole.cut[part] > 0).sum())
