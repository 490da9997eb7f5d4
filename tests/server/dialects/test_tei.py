"""Text Embeddings Inference's dialect, as huggingface_hub, Dify, LlamaIndex and Haystack use it."""

from __future__ import annotations

import numpy as np
import pytest
from tests.support.cross_encoders import DOCUMENTS, QUERY
from tests.support.servers import client_of, fake_app

from nimbed import Encoder
from nimbed.server import Limits, ModelSettings, ServerSettings, create_app

TEXTS = ["The cat sat on the mat.", "Prices rose in May."]


@pytest.mark.parametrize("path", ["/embed", "/", "/invocations"])
async def test_vectors_are_a_list_even_of_one_text(client, path):
    with Encoder("m", backend="fake") as encoder:
        vectors = encoder.encode(TEXTS)
    many = await client.post(path, json={"inputs": TEXTS, "truncate": True, "normalize": True})
    np.testing.assert_array_equal(np.array(many.json(), np.float32), vectors)
    assert many.headers["x-compute-characters"] == str(sum(map(len, TEXTS)))
    assert int(many.headers["x-compute-tokens"]) == sum(len(text) + 2 for text in TEXTS)
    one = (await client.post(path, json={"inputs": TEXTS[0]})).json()
    assert len(one) == 1


async def test_the_first_model_says_what_the_root_does(native, reranker_folder):
    app = create_app(ServerSettings(models=[ModelSettings(model=str(reranker_folder), precision="fp32")]))
    async with client_of(app) as client:
        for path in ("/", "/rerank", "/invocations"):
            ranks = (await client.post(path, json={"query": QUERY, "texts": DOCUMENTS})).json()
            assert sorted(one["index"] for one in ranks) == list(range(len(DOCUMENTS)))
        kind = (await client.get("/info")).json()["model_type"]
        assert list(kind) == ["reranker"]  # Dify reads the one key
        refused = await client.post("/embed", json={"inputs": "a"})
        assert refused.status_code == 424
        assert refused.json() == {"error": "model is not an embedding model", "error_type": "Backend"}
    app.close()


async def test_the_end_that_is_cut_is_the_models(client):
    for direction in ("Right", "right"):
        body = {"inputs": "x" * 600, "truncation_direction": direction}
        assert (await client.post("/embed", json=body)).headers["x-truncated-texts"] == "1"
    assert (await client.post("/embed", json={"inputs": "x", "truncation_direction": "Left"})).status_code == 200


async def test_info_has_what_dify_reads(client):
    found = (await client.get("/info")).json()
    assert found["model_type"] == {"embedding": {"pooling": "mean"}}
    assert found["max_input_length"] == 512
    assert found["max_client_batch_size"] > 2048
    assert found["model_id"] == "m"


@pytest.mark.parametrize("path", ["/embed_sparse", "/embed_all"])
async def test_outputs_that_do_not_exist_are_refused(client, path):
    answer = await client.post(path, json={"inputs": "a"})
    assert answer.status_code == 424
    assert answer.json()["error"] == "not supported by this model"


async def test_similarity_is_the_cosine(client):
    with Encoder("m", backend="fake") as encoder:
        source, *others = encoder.encode(["a cat", *TEXTS])
    body = {"inputs": {"source_sentence": "a cat", "sentences": TEXTS}, "parameters": {"truncate": True}}
    found = (await client.post("/similarity", json=body)).json()
    np.testing.assert_allclose(found, [source @ other for other in others], atol=1e-6)


async def test_similarity_tells_of_texts_that_were_cut_and_names_the_one_that_may_not_be(client):
    body = {"inputs": {"source_sentence": "x" * 600, "sentences": ["a"] * 300 + ["y" * 600]}}
    assert (await client.post("/similarity", json=body)).headers["x-truncated-texts"] == "2"
    whole = {"inputs": {**body["inputs"], "source_sentence": "x"}, "parameters": {"truncate": False}}
    refused = await client.post("/similarity", json=whole)
    assert refused.status_code == 413
    assert "item 301 has 602 tokens" in refused.json()["error"]


async def test_predict_scores_pairs(client):
    body = {"query": QUERY, "texts": DOCUMENTS[:2], "model": "judge"}
    ranks = {one["index"]: one["score"] for one in (await client.post("/rerank", json=body)).json()}
    pairs = [[QUERY, text] for text in DOCUMENTS[:2]]
    found = (await client.post("/predict", json={"inputs": pairs, "model": "judge"})).json()
    assert [one[0]["score"] for one in found] == pytest.approx([ranks[0], ranks[1]])
    single = (await client.post("/predict", json={"inputs": pairs[0], "model": "judge"})).json()
    assert single == [{"score": pytest.approx(ranks[0]), "label": "LABEL_0"}]
    assert (await client.post("/predict", json={"inputs": ["a", "b", "c"]})).status_code == 422


async def test_predict_of_several_queries_counts_all_of_them_and_names_the_pair_that_is_too_long(client):
    pairs = [[QUERY, DOCUMENTS[0]], ["another question", DOCUMENTS[1]]]
    answer = await client.post("/predict", json={"inputs": pairs, "model": "judge"})
    assert answer.headers["x-compute-characters"] == str(sum(len(text) for pair in pairs for text in pair))
    for pair, (found,) in zip(pairs, answer.json(), strict=True):
        one = await client.post("/predict", json={"inputs": pair, "model": "judge"})
        assert one.json() == [found]
    body = {"inputs": [*pairs, [QUERY, "a long word " * 400]], "model": "judge", "truncate": False}
    refused = await client.post("/predict", json=body)
    assert refused.status_code == 413
    assert "item 2 has" in refused.json()["error"]


async def test_tokens_there_and_back(client):
    (found,) = (await client.post("/tokenize", json={"inputs": "Ab é"})).json()
    assert [token["special"] for token in found] == [True, *[False] * 5, True]
    assert found[1] == {"id": found[1]["id"], "text": "A", "special": False, "start": 0, "stop": 1}
    ids = [token["id"] for token in found]
    assert (await client.post("/decode", json={"ids": ids})).status_code == 200
    assert (await client.post("/decode", json={"ids": [[10**9]]})).status_code == 422
    assert (await client.post("/decode", json={"ids": []})).status_code == 422


async def test_what_tokens_take_is_bounded_as_any_answer():
    app = fake_app(limits=Limits(body_bytes=4_000, text_characters=500))
    async with client_of(app) as client:
        refused = await client.post("/tokenize", json={"inputs": ["a cat sat"] * 300})
        assert refused.status_code == 413
        assert "32000 bytes: ask for fewer texts at once" in refused.json()["error"]
        refused = await client.post("/decode", json={"ids": [[1], [1] * 501]})
        assert refused.status_code == 413
        assert refused.json()["error"] == "item 1 of ids has 501 ids; 500 are allowed"
    assert app.load.bytes == 0
    app.close()


async def test_tokens_with_a_prompt(native, prompted_folder):
    app = create_app(ServerSettings(models=[ModelSettings(model=str(prompted_folder), precision="fp32")]))
    async with client_of(app) as client:
        whole = (await client.post("/tokenize", json={"inputs": "query: a cat"})).json()
        assert (await client.post("/tokenize", json={"inputs": "a cat", "prompt_name": "query"})).json() == whole
        assert (await client.post("/tokenize", json={"inputs": "a cat", "prompt_name": "none"})).status_code == 422
    app.close()


async def test_a_model_of_norm_1_says_so_where_others_are_asked_for(client):
    """Haystack asks for vectors that are not normalized unless its user says otherwise."""
    asked = {"inputs": TEXTS[0], "normalize": False}
    answer, usual = await client.post("/embed", json=asked), await client.post("/embed", json={"inputs": TEXTS[0]})
    assert answer.json() == usual.json()
    assert answer.headers["x-normalized"] == "true"
    assert "x-normalized" not in usual.headers


async def test_the_root_compares_sentences_too(client):
    """As huggingface_hub's InferenceClient asks an endpoint of its own."""
    body = {"inputs": {"source_sentence": TEXTS[0], "sentences": TEXTS}, "parameters": {}}
    found, wanted = await client.post("/", json=body), await client.post("/similarity", json=body)
    assert found.status_code == 200
    assert found.json() == wanted.json()


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        ({"inputs": []}, 400, "Empty"),
        ({"inputs": 3}, 422, "Validation"),
        ({"inputs": "x" * 600, "truncate": False}, 413, "Validation"),
        ({"inputs": "x" * 600, "truncate": True, "truncation_direction": "Left"}, 413, "Validation"),
        ({"inputs": "x", "truncation_direction": "up"}, 422, "Validation"),
        ({"inputs": "x" * 400_001}, 413, "Validation"),
    ],
)
async def test_errors(client, body, status, kind):
    answer = await client.post("/embed", json=body)
    assert answer.status_code == status
    assert answer.json()["error_type"] == kind


async def test_what_is_no_json_is_not_called_empty(client):
    answer = await client.post("/embed", content=b"{", headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["error_type"]) == (400, "Validation")
