"""Names."""

from __future__ import annotations

import pytest
from tests.support.servers import client_of, fake_app

from nimbed.errors import InputError
from nimbed.server import Alias, ModelSettings
from nimbed.server.catalog import Catalog
from nimbed.server.errors import ApiError


def models(*names):
    return [ModelSettings(model=name, backend="fake") for name in names]


def test_the_first_model_is_that_of_requests_that_name_none():
    catalog = Catalog(models("a", "b"), [Alias(name="c", model="b")])
    assert catalog.embedder(None)[0].name == "a"
    named, model = catalog.embedder("c")
    assert (named.name, named.id) == ("c", "b")
    assert model is catalog.embedder("b")[1]
    assert catalog.embedder("b:latest")[0].name == "b"
    with pytest.raises(ApiError) as caught:
        catalog.embedder("d")
    assert caught.value.kind == "unknown_model"
    with pytest.raises(ApiError, match="not a re-ranker"):
        catalog.reranker(None)
    catalog.close()


@pytest.mark.parametrize(
    ("aliases", "says"),
    [
        ([Alias(name="a", model="b")], "two models are called 'a'"),
        ([Alias(name="c")], "--alias c=MODEL"),
        ([Alias(name="c", model="z")], "'z' is not among the models"),
    ],
)
def test_aliases_that_lead_nowhere(aliases, says):
    with pytest.raises(InputError, match=says):
        Catalog(models("a", "b"), aliases)


def test_one_model_twice_needs_two_names():
    with pytest.raises(InputError, match="name = "):
        Catalog(models("a", "a"), [])
    twice = [ModelSettings(model="a", backend="fake"), ModelSettings(model="a", name="cut", dim=64, backend="fake")]
    catalog = Catalog(twice, [Alias(name="b", model="cut")])
    assert catalog.embedder("b")[1].dim == 64
    catalog.close()


def test_a_name_is_of_one_model_for_requests_and_for_aliases():
    twice = [ModelSettings(model="a", backend="fake"), ModelSettings(model="a", name="cut", dim=64, backend="fake")]
    catalog = Catalog(twice, [Alias(name="q", model="a", role="query")])
    assert catalog.embedder("q")[1] is catalog.embedder("a")[1]
    catalog.close()
    crossed = [ModelSettings(model="a", name="b", backend="fake"), ModelSettings(model="b", name="a", backend="fake")]
    catalog = Catalog(crossed, [Alias(name="q", model="b")])
    assert catalog.embedder("q")[1] is catalog.embedder("b")[1]
    catalog.close()


async def test_no_model_is_opened_because_a_request_named_it(tmp_path):
    app = fake_app()
    async with client_of(app) as client:
        for name in ("sentence-transformers/all-MiniLM-L6-v2", str(tmp_path), "../m", "https://example.org"):
            assert (await client.post("/v1/embeddings", json={"input": "a", "model": name})).status_code == 404
    assert list(app.catalog.names) == ["m"]
    app.close()
