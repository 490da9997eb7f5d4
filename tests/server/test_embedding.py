"""Roles, prompts, token ids and the two scales of scores."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from tests.support.servers import client_of

from nimbed.server import ModelSettings, ServerSettings, create_app
from nimbed.server.embedding import may_cut, role_and_prompt, scaled
from nimbed.server.errors import ApiError
from nimbed.server.fields import Fields

PROMPTS = {"query": "query: ", "document": "passage: ", "sts": "same: "}
MODEL = SimpleNamespace(spec=SimpleNamespace(prompts=PROMPTS))


@pytest.mark.parametrize(
    ("given", "role", "prompt"),
    [
        ({}, "document", None),
        ({"input_type": "query"}, "query", None),
        ({"input_type": "search_query"}, "query", None),
        ({"input_type": "search_document"}, "document", None),
        ({"input_type": "passage"}, "document", None),
        ({"task": "retrieval.query"}, "query", None),
        ({"task": "retrieval.passage", "input_type": "query"}, "query", None),
        ({"task": "text-matching"}, "document", None),
        ({"prompt_name": "query"}, "query", "query: "),
        ({"prompt_name": "passage"}, "document", None),
        ({"prompt_name": "sts"}, "document", "same: "),
    ],
)
def test_roles_and_prompts(given, role, prompt):
    named = SimpleNamespace(role="document")
    assert role_and_prompt(Fields(given, 100), named, MODEL) == (role, prompt)


@pytest.mark.parametrize(
    ("given", "may"),
    [({}, True), ({"truncate": False}, False), ({"truncate": "NONE"}, False), ({"truncate": "END"}, True),
     ({"truncate": "START"}, False)],
)  # fmt: skip
def test_truncation_in_the_words_of_clients(given, may):
    model = SimpleNamespace(spec=SimpleNamespace(truncation_side="right"))
    assert may_cut(Fields(given, 100), model) is may


def test_the_aliases_role_is_that_of_plain_requests():
    named = SimpleNamespace(role="query")
    assert role_and_prompt(Fields({}, 100), named, MODEL) == ("query", None)
    assert role_and_prompt(Fields({"input_type": "document"}, 100), named, MODEL) == ("document", None)


@pytest.mark.parametrize(
    "given", [{"input_type": "clustering"}, {"prompt_name": "x"}, {"prompt_name": "sts", "input_type": "query"}]
)
def test_what_is_no_role(given):
    with pytest.raises(ApiError, match=r"input_type|prompt"):
        role_and_prompt(Fields(given, 100), SimpleNamespace(role="document"), MODEL)


async def test_token_ids_of_ones_own_are_their_text(prompted_folder, native):
    models = [ModelSettings(model=str(prompted_folder), precision="fp32")]
    app = create_app(ServerSettings(models=models, token_ids="own"))
    async with client_of(app) as client:
        ids = [token["id"] for token in (await client.post("/tokenize", json={"inputs": "the iterator"})).json()[0]]
        wanted = (await client.post("/v1/embeddings", json={"input": "the iterator"})).json()["data"]
        assert (await client.post("/v1/embeddings", json={"input": ids})).json()["data"] == wanted
        assert (await client.post("/v1/embeddings", json={"input": [ids]})).json()["data"] == wanted
        for wrong in ([-1], [10**6], [2**63]):
            assert (await client.post("/v1/embeddings", json={"input": wrong})).status_code == 400
    app.close()


def scorer(activation):
    return SimpleNamespace(spec=SimpleNamespace(activation=activation))


def test_scores_are_logits_or_their_sigmoid():
    logits = np.float32([-3, 0, 2.5])
    shares = 1 / (1 + np.exp(-logits))
    np.testing.assert_array_equal(scaled(logits, scorer("identity"), raw=True), logits)
    np.testing.assert_allclose(scaled(logits, scorer("identity"), raw=False), shares, rtol=1e-6)
    np.testing.assert_array_equal(scaled(shares, scorer("sigmoid"), raw=False), shares)
    np.testing.assert_allclose(scaled(shares, scorer("sigmoid"), raw=True), logits, atol=1e-5)


def test_logits_are_finite_where_a_score_is_0_or_1():
    extremes = np.float32([0, 1])
    assert np.isfinite(scaled(extremes, scorer("sigmoid"), raw=True)).all()
    assert np.isfinite(scaled(np.float32([-1e30, 1e30]), scorer("identity"), raw=False)).all()


def test_another_scale_is_refused():
    with pytest.raises(ApiError, match="tanh"):
        scaled(np.float32([0.5]), scorer("tanh"), raw=True)
