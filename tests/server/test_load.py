"""Bounds on what the server has taken on."""

from __future__ import annotations

import pytest

from nimbed.server import Limits
from nimbed.server.errors import ApiError
from nimbed.server.load import Load


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


@pytest.mark.parametrize(("take", "size"), [(Load.hold, 800), (Load.keep, 10_000)], ids=["a body", "an answer"])
def test_bytes_of_all_bodies_and_answers(take, size):
    load = Load(Limits(body_bytes=100))
    take(load, size)
    with pytest.raises(ApiError, match="bodies and answers leave no room"):
        load.hold(1)
    load.free(size)
    load.hold(900)  # one alone is bounded elsewhere


def test_what_was_read_before_the_end_is_taken():
    load = Load(Limits())
    load.draining = True
    load.enter()
    assert load.requests == 1
