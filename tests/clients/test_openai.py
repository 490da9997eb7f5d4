"""OpenAI's own package: sync and async, base64 (what it asks for by itself) and lists of numbers."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

openai = pytest.importorskip("openai")

from tests.clients.conftest import KEY  # noqa: E402 (skipped where openai is missing)
from tests.clients.texts import TEXTS  # noqa: E402


@pytest.fixture
def client(url):
    with openai.OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0) as one:
        yield one


def vectors(answer):
    assert [item.index for item in answer.data] == list(range(len(answer.data)))
    return [item.embedding for item in answer.data]


def test_vectors(client, own, model):
    answer = client.embeddings.create(input=TEXTS, model=model)
    own.check(vectors(answer))
    assert (answer.model, answer.object, answer.usage.prompt_tokens > 20) == (model, "list", True)
    own.check(vectors(client.embeddings.create(input=TEXTS, model=model, encoding_format="float")))
    own.check(vectors(client.embeddings.create(input=TEXTS[0], model="text-embedding-3-small", user="u")), texts=1)


def test_base64_as_it_is_on_the_wire(client, own, model):
    import base64

    answer = client.embeddings.create(input=TEXTS, model=model, encoding_format="base64")
    own.check([np.frombuffer(base64.b64decode(one), "<f4") for one in vectors(answer)])


async def many(url, model, texts):
    async with openai.AsyncOpenAI(base_url=url, api_key=KEY, max_retries=0) as one:
        asked = [one.embeddings.create(input=text, model=model) for text in texts]
        return [answer.data[0].embedding for answer in await asyncio.gather(*asked)]


def test_async_and_without_v1(url, own, model):
    own.check(asyncio.run(many(url, model, TEXTS)))


def test_dimensions(client, own, model):
    (found,) = vectors(client.embeddings.create(input=TEXTS[0], model=model, dimensions=256))
    wanted = own.vectors["minilm"][0, :256]
    np.testing.assert_allclose(found, wanted / np.linalg.norm(wanted), atol=1e-6)


def test_models(client, model):
    assert {model, "text-embedding-3-small", "embed-queries", "judge"} <= {one.id for one in client.models.list()}


def test_errors(client, url, model):
    with pytest.raises(openai.NotFoundError, match="no such model") as found:
        client.embeddings.create(input="x", model="gpt-9")
    assert found.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError, match="dimensions must be"):
        client.embeddings.create(input="x", model=model, dimensions=1536)
    with pytest.raises(openai.BadRequestError, match="input cannot be empty"):
        client.embeddings.create(input=[], model=model)
    stranger = openai.OpenAI(base_url=f"{url}/v1", api_key="another key of mine", max_retries=0)
    with stranger, pytest.raises(openai.AuthenticationError):
        stranger.embeddings.create(input="x", model=model)
