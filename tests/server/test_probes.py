"""Alive and ready."""

from __future__ import annotations

from tests.support.servers import client_of, fake_app


async def test_ready_until_it_is_told_to_stop():
    app = fake_app()
    async with client_of(app) as client:
        for path in ("/", "/health", "/readyz", "/ping", "/livez"):
            assert (await client.get(path)).status_code == 200
        app.load.draining = True
        for path in ("/", "/health", "/readyz", "/ping"):
            answer = await client.get(path)
            assert answer.status_code == 503
            assert answer.json()["error_type"] == "Unhealthy"
        assert (await client.get("/livez")).status_code == 200
    app.close()


async def test_metrics_need_their_package(client, monkeypatch):
    import sys

    assert (await client.get("/metrics")).headers["content-type"].startswith("text/plain; version=")
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    answer = await client.get("/metrics")
    assert answer.status_code == 404
    assert "nimbed[prometheus]" in answer.json()["error"]
