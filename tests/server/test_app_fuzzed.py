"""Whatever a client sends, it gets an answer that is no failure of the server's, on every route."""

from __future__ import annotations

import asyncio
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.servers import URL, client_of, fake_app

FIELDS = ["input", "inputs", "model", "query", "texts", "documents", "dimensions", "encoding_format", "truncate",
          "normalize", "prompt_name", "input_type", "top_n", "raw_scores", "return_text", "return_documents", "ids",
          "source_sentence", "sentences", "parameters", "add_special_tokens", "skip_special_tokens"]  # fmt: skip
PATHS = ["/", "/embed", "/embed_all", "/embed_sparse", "/predict", "/rerank", "/similarity", "/tokenize", "/decode",
         "/info", "/health", "/ping", "/metrics", "/livez", "/readyz", "/invocations", "/v1/embeddings", "/embeddings",
         "/v1/models", "/models", "/v1/rerank", "/v2/rerank", "/api/embed", "/api/embeddings", "/api/tags", "/ui",
         "/ui/", "/ui/status", "/ui/page.css", "/ui/page.js", "/ui/icon.svg", "/none"]  # fmt: skip
TEXTS = st.text(max_size=40)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
VALUES = st.recursive(
    SCALARS | st.sampled_from(["m", "judge", "query", "base64", "asks"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(FIELDS) | TEXTS, inner, max_size=4),
    max_leaves=12,
)
BODIES = st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=8)
# Near to what is right, so that more than the first check is passed.
LIKELY = st.fixed_dictionaries(
    {
        "input": TEXTS | st.lists(TEXTS, max_size=4),
        "inputs": TEXTS | st.lists(TEXTS | st.lists(TEXTS, max_size=3), max_size=4) | BODIES,
        "query": TEXTS,
        "texts": st.lists(TEXTS, max_size=3),
    },
    optional={name: VALUES for name in FIELDS if name not in {"input", "inputs", "query", "texts"}},
)
ASCII = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30)


def test_every_route_is_fuzzed(app):
    assert set(PATHS) - {"/none"} == {path for path in app.routes if not path.startswith("/v1/models/")}


@pytest.fixture(scope="module")
def asked(native, reranker_folder):
    """Asks an application that is open as long as the module's tests, on one event loop."""
    app, loop = fake_app(reranker=reranker_folder), asyncio.new_event_loop()
    opened = client_of(app)
    client = loop.run_until_complete(opened.__aenter__())

    def ask(method, path, **options):
        return loop.run_until_complete(client.request(method, f"{URL}{path}", **options))

    yield ask
    loop.run_until_complete(opened.__aexit__(None, None, None))
    assert app.load.requests == 0
    app.close()
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


def checked(answer):
    assert answer.status_code < 500, answer.text
    assert answer.headers["x-request-id"]
    if answer.content and answer.headers["content-type"] == "application/json":
        json.loads(answer.text)
    return answer


@settings(max_examples=400)
@given(path=st.sampled_from(PATHS), body=BODIES | LIKELY)
def test_any_json(asked, path, body):
    answer = checked(asked("POST", path, json=body))
    if answer.status_code >= 400 and answer.status_code != 405:
        said = answer.json()
        assert said.keys() <= {"error", "error_type", "message", "detail"}


@settings(max_examples=200)
@given(path=st.sampled_from(PATHS), body=st.binary(max_size=200) | VALUES.map(lambda v: json.dumps(v).encode()))
def test_any_bytes(asked, path, body):
    checked(asked("POST", path, content=body, headers={"content-type": "application/json"}))


@settings(max_examples=200)
@given(
    method=st.sampled_from(["GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"]),
    path=st.sampled_from(PATHS),
    headers=st.dictionaries(
        st.sampled_from(["host", "origin", "content-type", "content-encoding", "authorization", "x-request-id",
                         "access-control-request-method"]),
        ASCII.map(str.strip) | st.sampled_from(["application/json", "null", "[::1", "localhost"]),
        max_size=4,
    ),
)  # fmt: skip
def test_any_headers(asked, method, path, headers):
    checked(asked(method, path, content=b'{"input": "a"}', headers=headers))


@settings(max_examples=100)
@given(path=ASCII.map(lambda text: "/" + text.replace("?", "").replace("#", "").replace("/", "").replace("\\", "")))
def test_any_path(asked, path):
    answer = asked("POST", path, json={})
    assert answer.status_code < 500
