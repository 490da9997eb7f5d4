"""torch in fp32 is the oracle. A slice of what `make quality` measures in full."""

from __future__ import annotations

import numpy as np
import pytest

from nimbed import Encoder
from tests.conftest import read_jsonl, shared_data


@pytest.fixture(scope="module")
def oracle(minilm_folder):
    with Encoder(minilm_folder, backend="torch", truncate="silent") as encoder:
        yield encoder


@pytest.fixture(scope="module")
def texts(peps):
    return [peps[i] for i in np.random.default_rng(0).permutation(len(peps))[:500]]


def test_fp32_agrees_for_every_one_of_500_texts(oracle, texts, minilm_fp32):
    with Encoder(minilm_fp32, truncate="silent") as encoder:
        assert (encoder.encode(texts) * oracle.encode(texts)).sum(1).min() >= 0.99999


def test_int8_is_near_and_ranks_alike(oracle, texts, minilm_int8):
    documents, queries = texts[:200], [t.split(". ")[0] for t in texts[200:230]]
    with Encoder(minilm_int8, truncate="silent") as encoder:
        fast, exact = encoder.encode(documents), oracle.encode(documents)
        fast_scores = encoder.encode(queries, role="query") @ fast.T
    exact_scores = oracle.encode(queries, role="query") @ exact.T
    cosines = (fast * exact).sum(1)
    assert cosines.mean() >= 0.99
    assert cosines.min() >= 0.95
    top = [
        len(set(np.argsort(-a)[:10]) & set(np.argsort(-b)[:10])) / 10
        for a, b in zip(fast_scores, exact_scores, strict=True)
    ]
    assert np.mean(top) >= 0.85


def test_int8_finds_what_torch_finds_in_scifact(oracle, minilm_int8):
    folder = shared_data("scifact")
    corpus = read_jsonl(folder / "corpus.jsonl.gz")
    queries = {q["id"]: q["text"] for q in read_jsonl(folder / "queries.jsonl.gz")}
    pairs = [line.split("\t")[:2] for line in (folder / "qrels.tsv").read_text().splitlines()[1:]][:60]
    wanted = {document for _, document in pairs}
    texts = {d["id"]: f"{d['title']} {d['text']}" for d in corpus if d["id"] in wanted or int(d["id"]) % 40 == 0}
    found = []
    with Encoder(minilm_int8, truncate="silent") as encoder:
        for model in (encoder, oracle):
            documents = model.encode(list(texts.values()))
            scores = model.encode([queries[q] for q, _ in pairs], role="query") @ documents.T
            order = [list(texts)[i] for i in scores.argmax(1)]
            found.append(np.mean([got == want for got, (_, want) in zip(order, pairs, strict=True)]))
    assert found[1] > 0.5
    assert abs(found[0] - found[1]) <= 0.05
