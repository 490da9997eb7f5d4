"""Vectors as JSON, in pieces."""

from __future__ import annotations

import base64
import json
from types import SimpleNamespace

import numpy as np
import pytest

from nimbed.server import Limits
from nimbed.server.bodies import JsonList, openai_base64, openai_floats, plain, written
from nimbed.server.errors import ApiError
from nimbed.server.gathering import Computed
from nimbed.server.load import Load
from nimbed.server.request import Request, Work

ROWS = np.random.default_rng(0).standard_normal((300, 384), np.float32)


async def parts(*cuts):
    for part in np.array_split(ROWS, 2):
        cut = np.zeros(len(part), np.int32)
        cut[[at for at in cuts if at < len(part)]] = 700
        yield Computed(part, cut, tokens=[2] * len(part))


def asking(**bounds):
    """A request, of which only what it holds and counts is looked at."""
    limits = Limits(**bounds)
    app = SimpleNamespace(settings=SimpleNamespace(limits=limits))
    return Request(app, {}, b"", Work(), Load(limits).held())


@pytest.mark.parametrize("write", [plain, openai_floats, openai_base64])
async def test_every_number_arrives(write):
    request = asking()
    pieces = await written(request, parts(), write, truncate=True)
    items = json.loads(b"".join(pieces))
    if write is not plain:
        assert [item["index"] for item in items] == list(range(300))
        items = [item["embedding"] for item in items]
    if write is openai_base64:
        items = [np.frombuffer(base64.b64decode(item), "<f4") for item in items]
    np.testing.assert_array_equal(np.array(items, np.float32), ROWS)
    assert (request.work.tokens, request.work.truncated) == (600, 0)
    assert 0 < sum(map(len, pieces)) - request.held.size < 10  # brackets and commas


async def test_truncation_is_counted_or_refused():
    request = asking()
    await written(request, parts(3, 5), plain, truncate=True)
    assert request.work.truncated == 4
    with pytest.raises(ApiError, match="item 3 has 700 tokens"):
        await written(asking(), parts(3, 5), plain, truncate=False)


async def test_an_answer_is_bounded():
    whole = sum(map(len, await written(asking(), parts(), plain, truncate=True)))
    with pytest.raises(ApiError, match="ask for fewer texts at once"):
        await written(asking(body_bytes=whole // 16), parts(), plain, truncate=True)


def test_a_list_of_no_piece_is_empty():
    assert JsonList(asking()).whole() == [b"[]"]
