"""Spans in the caller's trace."""

from __future__ import annotations

import sys

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from tests.support.servers import client_of, fake_app

from nimbed.errors import MissingExtraError

TRACE = "0af7651916cd43dd8448eb211c80319c"


async def test_a_request_is_a_span_of_the_trace_that_it_names():
    app, spans = fake_app(traces=True), InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    app.tracing._tracer = provider.get_tracer("test")
    async with client_of(app) as client:
        headers = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
        await client.post("/v1/embeddings", json={"input": "a secret text"}, headers=headers)
        await client.post("/v1/embeddings", json={}, headers={"traceparent": "damaged"})
    first, second = spans.get_finished_spans()
    assert first.name == "POST /v1/embeddings"
    assert format(first.context.trace_id, "032x") == TRACE
    assert first.attributes["nimbed.texts"] == 1
    assert first.attributes["http.response.status_code"] == 200
    assert second.attributes["http.response.status_code"] == 400
    assert "secret" not in first.to_json()
    app.close()


def test_spans_need_their_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(MissingExtraError, match=r"nimbed\[otel\]"):
        fake_app(traces=True)


async def test_none_are_made_unless_they_are_wanted(app, client):
    assert app.tracing.start(None) is None
