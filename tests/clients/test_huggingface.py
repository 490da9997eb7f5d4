"""huggingface_hub's InferenceClient."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

hub = pytest.importorskip("huggingface_hub")

from tests.clients.conftest import KEY  # noqa: E402 (skipped where huggingface_hub is missing)
from tests.clients.texts import TEXTS  # noqa: E402


@pytest.mark.parametrize("path", ["", "/embed"])
def test_feature_extraction(url, own, path):
    client = hub.InferenceClient(model=f"{url}{path}", token=KEY)
    own.check(client.feature_extraction(TEXTS, normalize=True, truncate=True))
    own.check(client.feature_extraction(TEXTS[0], truncation_direction="right"), texts=1)


def test_async(url, own):
    client = hub.AsyncInferenceClient(model=url, token=KEY)
    own.check(asyncio.run(client.feature_extraction(TEXTS)))


@pytest.mark.parametrize("path", ["", "/similarity"])
def test_sentence_similarity(url, own, path):
    client = hub.InferenceClient(model=f"{url}{path}", token=KEY)
    found = client.sentence_similarity(TEXTS[0], other_sentences=TEXTS[1:])
    vectors = own.vectors["minilm"]
    assert found == pytest.approx((vectors[1:] @ vectors[0]).tolist(), abs=1e-6)


def test_an_error_says_why(url):
    client = hub.InferenceClient(model=url, token=KEY)
    with pytest.raises(hub.errors.HfHubHTTPError) as found:
        client.feature_extraction(TEXTS[0], prompt_name="poem")
    assert "no such prompt" in found.value.response.text
    assert np.isin(found.value.response.status_code, [400, 422])
