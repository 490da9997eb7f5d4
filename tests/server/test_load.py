"""Bounds on what the server has taken on."""

from __future__ import annotations

import pytest

from nimbed.server import Limits
from nimbed.server.errors import ApiError
from nimbed.server.load import Held, Load


def test_requests():
    load = Load(Limits(queue=2))
    load.enter()
    load.enter()
    with pytest.raises(ApiError) as caught:
        load.enter()
    assert caught.value.kind == "overloaded"
    load.leave()
    load.enter()
    assert load.requests == 2


@pytest.mark.parametrize(("take", "size"), [(Held.take, 800_000), (Held.keep, 10_000_000)], ids=["a body", "an answer"])
def test_bytes_of_all_bodies_and_answers(take, size):
    load = Load(Limits(body_bytes=100_000))
    first, second, third = load.held(), load.held(), load.held()
    take(first, size)
    second.take(60_000)  # what is short always finds room
    with pytest.raises(ApiError, match="bodies and answers leave no room"):
        second.take(60_000)
    first.keep(0)
    third.keep(60_000)
    second.take(60_000)
    assert load.bytes == 180_000
    for one in (second, third):
        one.keep(0)
    first.take(900_000)  # one alone is bounded elsewhere
    assert (load.bytes, first.size) == (900_000, 900_000)


def test_what_was_read_before_the_end_is_taken():
    load = Load(Limits())
    load.draining = True
    load.enter()
    assert load.requests == 1
