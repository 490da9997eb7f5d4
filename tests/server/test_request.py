"""Requests that are read beside the event loop, and answers."""

from __future__ import annotations

import asyncio
import threading

import pytest

from nimbed.server.request import Answer, Request, Work


def test_headers_are_not_shared_between_answers():
    first, second = Answer.json({"a": 1}), Answer.json([], status=404)
    first.headers.append((b"x-one", b"1"))
    assert first.body == [b'{"a":1}']
    assert (second.status, second.headers) == (404, [(b"content-type", b"application/json")])


@pytest.mark.parametrize(("size", "apart"), [(10, False), (64 * 1024, False), (64 * 1024 + 1, True)])
async def test_what_is_large_is_read_beside_the_event_loop(size, apart):
    here = threading.get_ident()
    found = await Request(None, {}, b"x" * size, Work(), None).apart(threading.get_ident)
    assert (found != here) == apart


async def test_a_list_is_worked_through_in_parts_and_left_where_its_request_ends():
    parts, begun = [], threading.Event()

    def work(some):
        parts.append(len(some))
        begun.set()
        return "".join(some)

    async def worked(items):
        return [one async for one in Request(None, {}, b"", Work(), None).in_turn(work, items)]

    assert "".join(await worked([str(number) for number in range(600)])) == "".join(map(str, range(600)))
    assert parts == [256, 256, 88]
    parts.clear()
    await worked(["x" * 60_000, "x" * 30_000, "x" * 30_000, "x"])
    assert parts == [1, 2, 1]
    parts.clear()
    begun.clear()
    task = asyncio.ensure_future(worked(["x"] * 10**6))
    await asyncio.to_thread(begun.wait, 20)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(parts) < 3000
