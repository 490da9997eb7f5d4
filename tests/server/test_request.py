"""Answers."""

from __future__ import annotations

from nimbed.server.request import Answer


def test_headers_are_not_shared_between_answers():
    first, second = Answer.json({"a": 1}), Answer.json([], status=404)
    first.headers.append((b"x-one", b"1"))
    assert first.body == b'{"a":1}'
    assert (second.status, second.headers) == (404, [(b"content-type", b"application/json")])
