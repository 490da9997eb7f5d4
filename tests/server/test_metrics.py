"""Prometheus: TEI's names beside nimbed's own, and labels from configured names alone."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families
from tests.support.cross_encoders import DOCUMENTS, QUERY
from tests.support.servers import client_of, fake_app

from nimbed.server.metrics import Histogram


async def samples(client):
    text = (await client.get("/metrics")).text
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_counts(native, reranker_folder):
    app = fake_app(reranker=reranker_folder)
    async with client_of(app) as client:
        await client.post("/v1/embeddings", json={"input": ["a", "b"]})
        await client.post("/embed", json={"inputs": "a"})
        await client.post("/embed", json={"inputs": 5})
        await client.post("/rerank", json={"query": QUERY, "texts": DOCUMENTS})
        await client.post("/a-secret-path", json={"model": "a-secret-model"})
        await client.request("BREW", "/embed")
        for path in ("/livez", "/readyz", "/", "/info"):  # as probes ask, every second
            await client.get(path)
        await client.post("/tokenize", json={"inputs": ["a", "b"]})
        found = await samples(client)
        text = (await client.get("/metrics")).text
    posted = {("method", "POST"), ("status", "200")}
    assert found[("nimbed_http_requests_total", *sorted({*posted, ("route", "/v1/embeddings")}))] == 1
    assert found["te_request_count", ("method", "batch")] == 2
    assert found["te_request_success", ("method", "single")] == 2
    assert found["te_request_failure", ("err", "validation")] == 2
    assert found["te_embed_count",] == 3
    assert found["te_predict_success",] == len(DOCUMENTS)
    assert found["te_batch_next_size_sum",] == 2 + len(DOCUMENTS)  # "a" was cached the second time
    assert found["te_queue_size",] == 0
    assert found["te_request_duration_count",] == 6
    assert found["te_request_duration_bucket", ("le", "+Inf")] == 6
    assert found["nimbed_texts_total", ("encoder", "judge")] == len(DOCUMENTS)
    assert "secret" not in text
    assert "BREW" not in text
    app.close()


def test_buckets_are_cumulative():
    one = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 7.0):
        one.add(value)
    assert one.shown() == ([("1.0", 2.0), ("2.0", 3.0), ("+Inf", 4.0)], 10.0)
