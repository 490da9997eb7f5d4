"""Vectors as JSON, in pieces."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest

from nimbed.server.bodies import openai_base64, openai_floats, plain, written
from nimbed.server.errors import ApiError
from nimbed.server.gathering import Computed
from nimbed.server.request import Work

ROWS = np.random.default_rng(0).standard_normal((300, 384), np.float32)


async def parts(*cuts):
    for part in np.array_split(ROWS, 2):
        cut = np.zeros(len(part), np.int32)
        cut[[at for at in cuts if at < len(part)]] = 700
        yield Computed(part, cut, tokens=[2] * len(part))


@pytest.mark.parametrize("write", [plain, openai_floats, openai_base64])
async def test_every_number_arrives(write):
    work = Work()
    items = json.loads(await written(parts(), write, work, truncate=True, most=10**9))
    if write is not plain:
        assert [item["index"] for item in items] == list(range(300))
        items = [item["embedding"] for item in items]
    if write is openai_base64:
        items = [np.frombuffer(base64.b64decode(item), "<f4") for item in items]
    np.testing.assert_array_equal(np.array(items, np.float32), ROWS)
    assert (work.tokens, work.truncated) == (600, 0)


async def test_truncation_is_counted_or_refused():
    work = Work()
    await written(parts(3, 5), plain, work, truncate=True, most=10**9)
    assert work.truncated == 4
    with pytest.raises(ApiError, match="item 3 has 700 tokens"):
        await written(parts(3, 5), plain, Work(), truncate=False, most=10**9)


async def test_an_answer_is_bounded():
    whole = len(await written(parts(), plain, Work(), truncate=True, most=10**9))
    with pytest.raises(ApiError, match="ask for fewer texts at once"):
        await written(parts(), plain, Work(), truncate=True, most=whole // 2)
