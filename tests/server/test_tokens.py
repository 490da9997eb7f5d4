"""Tokens and ids of a real tokenizer."""

from __future__ import annotations

import pytest

from nimbed.server import ModelSettings
from nimbed.server.errors import ApiError
from nimbed.server.models import open_model
from nimbed.server.tokens import text_of_ids, tokens_of


@pytest.fixture(scope="module")
def model(prompted_folder, native):
    with open_model(ModelSettings(model=str(prompted_folder), precision="fp32")) as opened:
        yield opened


def test_there_and_back(model):
    (tokens,) = tokens_of(model, ["the iterator"], special=True)
    ids = [token["id"] for token in tokens]
    assert text_of_ids(model, ids, "ids") == "the iterator"
    assert "[CLS]" in text_of_ids(model, ids, "ids", skip_special=False)
    (plain,) = tokens_of(model, ["the iterator"], special=False)
    assert plain == [token for token in tokens if not token["special"]]
    assert "".join("the iterator"[t["start"] : t["stop"]] for t in plain) == "theiterator"


@pytest.mark.parametrize("ids", [[-1], [10**6], [2**70]])
def test_ids_that_are_none(model, ids):
    with pytest.raises(ApiError, match="token ids must be from 0"):
        text_of_ids(model, ids, "ids")
