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


def test_bytes_of_all_bodies():
    load = Load(Limits(body_bytes=100))
    load.hold(800)
    with pytest.raises(ApiError, match="no room"):
        load.hold(1)
    load.free(800)
    load.hold(900)  # one alone is bounded elsewhere


def test_an_answer_that_is_not_read_leaves_no_room_for_other_bodies():
    load = Load(Limits(body_bytes=100))
    load.keep(10_000)
    with pytest.raises(ApiError, match="bodies and answers leave no room"):
        load.hold(1)
    load.free(10_000)
    load.hold(1)


def test_what_was_read_before_the_end_is_taken():
    load = Load(Limits())
    load.draining = True
    load.enter()
    assert load.requests == 1
