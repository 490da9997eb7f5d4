"""When the event loop computes a request itself."""

from __future__ import annotations

import asyncio
import pickle
import threading

import pytest

from nimbed._serving import scheduler
from nimbed.server.load import Load
from nimbed.server.lone import Lone
from nimbed.server.models import Asked, open_model
from nimbed.server.settings import Limits, ModelSettings


def known_to_be_quick(load):
    lone = Lone(load)
    for _ in range(20):
        lone.took(0.001, 10)
    return lone


@pytest.fixture
def load():
    made = Load(Limits())
    made.enter()
    return made


async def test_one_that_is_alone_may_when_such_ones_are_quick(load):
    lone = Lone(load)
    asked = []
    for _ in range(20):
        asked.append(await lone.may_hold_the_loop(10))
        lone.took(0.001, 10)
    assert asked == [False] * 14 + [True] * 6  # of a model nothing is known at first


async def test_a_slow_one_is_remembered_for_a_while(load):
    lone = known_to_be_quick(load)
    lone.took(0.0051, 10)
    assert not await lone.may_hold_the_loop(10)
    lone.took(0.001, 10)
    assert await lone.may_hold_the_loop(10)


async def test_what_is_long_may_not_and_says_nothing_of_what_is_short(load):
    lone = known_to_be_quick(load)
    assert not await lone.may_hold_the_loop(401)
    lone.took(5.0, 401)
    assert await lone.may_hold_the_loop(400)


async def test_beside_others_it_may_not_and_what_it_took_says_nothing(load):
    lone = known_to_be_quick(load)
    load.enter()
    lone.took(5.0, 10)
    assert not await lone.may_hold_the_loop(10)
    load.leave()
    assert await lone.may_hold_the_loop(10)


async def test_one_that_came_in_the_same_turn_is_known(load):
    lone = known_to_be_quick(load)
    asyncio.get_running_loop().call_soon(load.enter)
    assert not await lone.may_hold_the_loop(10)


async def test_where_nobody_counts_requests_it_may_not():
    assert not await known_to_be_quick(None).may_hold_the_loop(10)


async def threads_of(model, texts):
    """The vectors, and the threads that ran the engine."""
    seen = set()
    remove = model.on_batch(lambda _: seen.add(threading.get_ident()))
    found = [part.rows async for part in model.embed(Asked(texts=texts, role="query"))]
    remove()
    return found[0], seen


async def test_the_loop_computes_for_one_and_a_thread_for_several(load):
    me = {threading.get_ident()}
    with open_model(ModelSettings(model="m", backend="fake", cache=0), load) as model:
        alone, by = await threads_of(model, ["a text"])
        assert by.isdisjoint(me)
        model._lone = known_to_be_quick(load)
        same, by = await threads_of(model, ["a text"])
        assert by == me
        assert (same == alone).all()
        load.enter()
        same, by = await threads_of(model, ["a text"])
        assert by.isdisjoint(me)
        assert (same == alone).all()


async def test_a_busy_engine_does_not_hold_the_loop(load, monkeypatch):
    monkeypatch.setattr(scheduler.SchedulerState, "batch_taken", lambda *_: False)
    with open_model(ModelSettings(model="m", backend="fake", cache=0), load) as model:
        model._lone = known_to_be_quick(load)
        _, by = await threads_of(model, ["a text"])
        assert by.isdisjoint({threading.get_ident()})


async def test_a_copy_by_pickle_never_holds_the_loop(load):
    with (
        open_model(ModelSettings(model="m", backend="fake", cache=0), load) as model,
        pickle.loads(pickle.dumps(model)) as copy,
    ):
        _, by = await threads_of(copy, ["a text"])
        assert by.isdisjoint({threading.get_ident()})
        assert not await copy._lone.may_hold_the_loop(10)
