"""Whom the server answers: a web page, a foreign name, a wrong key, another kind of body."""

from __future__ import annotations

import logging

import pytest
from tests.support.servers import client_of, fake_app

from nimbed.server import Access, ModelSettings
from nimbed.server.security import host_name, request_id

KEY = "k3y-of-sixteen-characters"
BODY = {"input": "a cat"}


async def post(app, base_url="http://127.0.0.1:8080", path="/v1/embeddings", **options):
    async with client_of(app, base_url=base_url) as client:
        return await client.post(path, **{"json": BODY, **options})


@pytest.fixture(scope="module")
def guarded():
    app = fake_app(access=Access(keys=[KEY, "a-second-key-for-rotation"], origins=["https://ours.example"]))
    yield app
    app.close()


def bearer(key):
    return {"authorization": f"Bearer {key}"}


@pytest.mark.parametrize(
    "headers", [bearer(KEY), bearer("a-second-key-for-rotation"), {"authorization": f"bearer {KEY}"}]
)
async def test_any_key_opens(guarded, headers):
    assert (await post(guarded, headers=headers)).status_code == 200


@pytest.mark.parametrize("headers", [{}, bearer(""), bearer(KEY[:-1]), bearer(KEY + "x"), {"authorization": KEY},
                                     {"authorization": f"Basic {KEY}"}])  # fmt: skip
async def test_nothing_else_does(guarded, headers):
    answer = await post(guarded, headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json()["error"]["code"] == "invalid_api_key"
    assert KEY not in answer.text


async def test_health_and_metrics_are_public_unless_protected(guarded):
    async with client_of(guarded) as client:
        for path in ("/health", "/livez", "/readyz", "/ping", "/metrics"):
            assert (await client.get(path)).status_code == 200
        for path in ("/", "/info", "/ui/status"):
            assert (await client.get(path)).status_code == 401
    app = fake_app(access=Access(keys=[KEY], protect_health=True))
    async with client_of(app) as client:
        assert (await client.get("/health")).status_code == 401
        assert (await client.get("/metrics", headers=bearer(KEY))).status_code == 200
    app.close()


@pytest.mark.parametrize("name", ["http://localhost:1", "http://[::1]:8080", "http://127.0.0.1"])
async def test_the_names_of_loopback_are_this_server(app, name):
    assert (await post(app, name)).status_code == 200


async def test_the_address_of_loopback_that_it_listens_on_is_this_server():
    app = fake_app(host="127.0.0.2")
    assert (await post(app, "http://127.0.0.2:8080")).status_code == 200
    assert (await post(app, "http://127.0.0.3:8080")).status_code == 403
    app.close()


@pytest.mark.parametrize("name", ["http://evil.example", "http://127.0.0.1.evil.example:8080", "http://10.0.0.1"])
async def test_another_name_is_refused(app, name):
    """A page may give its own name the address 127.0.0.1 (DNS rebinding)."""
    answer = await post(app, name)
    assert answer.status_code == 403
    assert "Host" in answer.json()["error"]["message"]


async def test_further_names_may_be_allowed_and_beyond_loopback_any_is():
    app = fake_app(access=Access(hosts=["Embed.Example", "2001:db8:0:0::1"]))
    assert (await post(app, "http://embed.example")).status_code == 200
    assert (await post(app, "http://[2001:db8::1]")).status_code == 200
    assert (await post(app, "http://[2001:db8::2]")).status_code == 403
    assert (await post(app, "http://evil.example")).status_code == 403
    app.close()
    app = fake_app(host="0.0.0.0", access=Access(insecure=True))
    assert (await post(app, "http://whatever.example")).status_code == 200
    app.close()


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:9999", ""])
async def test_a_page_of_another_origin_may_not_ask(app, origin):
    answer = await post(app, headers={"origin": origin})
    assert answer.status_code == 403
    assert "access-control-allow-origin" not in answer.headers


async def test_the_servers_own_page_may(app):
    assert (await post(app, headers={"origin": "http://127.0.0.1:8080"})).status_code == 200


async def test_cors_is_for_the_origins_that_are_named(guarded):
    ours = {"origin": "https://ours.example", **bearer(KEY)}
    answer = await post(guarded, headers=ours)
    assert answer.headers.get_list("access-control-allow-origin") == ["https://ours.example"]
    assert answer.headers["access-control-expose-headers"] == "*"
    async with client_of(guarded) as client:
        asked = {"origin": "https://ours.example", "access-control-request-method": "POST"}
        allowed = await client.options("/v1/embeddings", headers=asked)
        assert allowed.headers.get_list("access-control-allow-origin") == ["https://ours.example"]  # of two none counts
        assert "authorization" in allowed.headers["access-control-allow-headers"]
        names = "authorization,content-type,x-stainless-lang"  # as OpenAI's package for JavaScript has it
        allowed = await client.options("/", headers={**asked, "access-control-request-headers": names})
        assert allowed.headers["access-control-allow-headers"] == names
        odd = await client.options("/", headers={**asked, "access-control-request-headers": "a: b"})
        assert odd.headers["access-control-allow-headers"] == "authorization, content-type"
        other = await client.options("/v1/embeddings", headers={**asked, "origin": "https://other.example"})
        assert not any(name.startswith("access-control") for name in other.headers)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "", "application/jsonp"])
async def test_only_json_is_read(app, kind):
    answer = await post(app, json=None, content=b'{"input": "a"}', headers={"content-type": kind})
    assert answer.status_code == 415


async def test_json_with_a_charset_is_json(app):
    headers = {"content-type": "application/json; charset=utf-8"}
    assert (await post(app, json=None, content=b'{"input": "a"}', headers=headers)).status_code == 200


async def test_compressed_bodies_are_refused(app):
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    assert (await post(app, json=None, content=b"x", headers=headers)).status_code == 415


async def test_headers_are_bounded(app):
    assert (await post(app, headers={"x-long": "x" * 20_000})).status_code == 431


def test_keys_are_in_no_repr_and_no_error():
    access = Access(keys=[KEY])
    assert KEY not in repr(access) + repr(ModelSettings(model="m")) + repr(fake_app(access=access).settings)


async def test_keys_and_texts_are_in_no_log(guarded, caplog):
    caplog.set_level(logging.DEBUG)
    await post(guarded, headers=bearer("wrong-" + KEY), json={"input": "a secret text"})
    await post(guarded, headers=bearer(KEY), json={"input": ["a secret text", 5]})
    said = "\n".join(record.getMessage() for record in caplog.records if record.name.startswith("nimbed"))
    assert "secret" not in said
    assert KEY not in said


@pytest.mark.parametrize(
    ("given", "kept"),
    [(b"abc-1.2_3:4", True), (b"x" * 128, True), (b"x" * 129, False), (b"", False), (b"a b", False), (b"a\nb", False),
     (b"<script>", False), (b"abc\n", False)],
)  # fmt: skip
def test_request_ids(given, kept):
    assert request_id({b"x-request-id": given}) == (given if kept else None)
    assert request_id({}) is None


@pytest.mark.parametrize(
    ("host", "name"),
    [(b"LOCALHOST:80", "localhost"), (b"[::1]:8080", "::1"), (b"", ""), (b"\xff", ""), (b"[::1", ""), (b"a@b", "b")],
)
def test_host_names(host, name):
    assert host_name(host) == name
