"""What a forked child forgets, and what it must not tear down."""

from __future__ import annotations

import gc
import os

import pytest

from nimbed._serving import fork

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")


class Thing:
    def __init__(self) -> None:
        self.held = object()
        self.resets = 0

    def reset(self) -> None:
        self.held = None
        self.resets += 1


def in_child(look) -> str:
    """What ``look()`` says in a forked child."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(writer, str(look()).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as told:
        said = told.read()
    assert os.waitpid(child, 0)[1] == 0
    return said


def test_a_child_starts_anew_and_the_parent_goes_on():
    thing = Thing()
    fork.reset_in_child(thing, Thing.reset)
    assert in_child(lambda: (thing.resets, thing.held)) == "(1, None)"
    assert thing.resets == 0
    assert thing.held is not None


def test_a_grandchild_starts_anew_once_more():
    thing = Thing()
    fork.reset_in_child(thing, Thing.reset)
    assert in_child(lambda: in_child(lambda: thing.resets)) == "2"


def test_what_the_parent_held_is_not_torn_down_in_the_child():
    class Engine:
        torn_down = 0

        def __del__(self) -> None:
            Engine.torn_down += 1

    thing = Thing()
    thing.held = Engine()
    fork.reset_in_child(thing, Thing.reset)
    assert in_child(lambda: (gc.collect() and 0, thing.held, Engine.torn_down)) == "(0, None, 0)"
    thing.held = None
    gc.collect()
    assert Engine.torn_down == 1  # in the parent it is as ever


def test_the_last_reset_that_was_asked_for_counts():
    thing = Thing()
    fork.reset_in_child(thing, Thing.reset)
    fork.reset_in_child(thing, lambda one: setattr(one, "resets", 7))
    assert in_child(lambda: thing.resets) == "7"


def test_who_is_gone_is_forgotten():
    thing = Thing()
    fork.reset_in_child(thing, Thing.reset)
    before = len(fork._resets)
    del thing
    gc.collect()
    assert len(fork._resets) == before - 1


def test_a_fork_that_python_was_not_told_of_is_noticed_at_the_next_use(monkeypatch):
    thing = Thing()
    fork.reset_in_child(thing, Thing.reset)
    fork.notice()
    assert thing.resets == 0
    monkeypatch.setattr(fork, "_resets", {thing: Thing.reset})
    monkeypatch.setattr(fork, "_inherited", [])
    monkeypatch.setattr(fork, "_process", os.getpid() + 1)  # as if this were a child of that one
    fork.notice()
    fork.notice()
    assert thing.resets == 1
    assert [set(held) for held in fork._inherited] == [{"held", "resets"}]
