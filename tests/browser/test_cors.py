"""Web pages of other origins ask the server, in a real browser (make test-browser)."""

from __future__ import annotations

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest
from tests.support.browser import chromium
from tests.support.servers import Listening

from nimbed.server import Access, ModelSettings, ServerSettings, create_app

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Page

KEY = "k3y-of-sixteen-characters"
# As OpenAI's package for JavaScript asks, of whose headers a browser first asks the server.
ASK = """async ([url, key]) => {
  const headers = {
    "Content-Type": "application/json", Authorization: `Bearer ${key}`, "X-Stainless-Lang": "js", "X-Request-ID": "mine"
  };
  const answer = await fetch(url, {method: "POST", headers, body: JSON.stringify({input: "word ".repeat(600)})});
  const found = await answer.json();
  const read = ["x-request-id", "x-truncated-texts"].map((name) => answer.headers.get(name));
  return [answer.status, found.data[0].embedding.length, ...read];
}"""


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_said: object) -> None: ...


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A page of somebody else's server on this machine."""
    folder: Path = tmp_path_factory.mktemp("pages")
    (folder / "index.html").write_text("<!doctype html><title>another</title>")
    with chromium() as browser, ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as pages:
        thread = threading.Thread(target=pages.serve_forever)
        thread.start()
        one = browser.new_page()
        one.goto(f"http://127.0.0.1:{pages.server_address[1]}/")
        yield one
        one.close()
        pages.shutdown()
        thread.join()


def asked(page: Page, origins: list[str]) -> list[object]:
    models = [ModelSettings(model="m", backend="fake")]
    app = create_app(ServerSettings(models=models, port=0, access=Access(keys=[KEY], origins=origins)))
    with Listening(app) as server:
        return page.evaluate(ASK, [f"http://127.0.0.1:{server.port}/v1/embeddings", KEY])


def test_a_page_of_an_origin_that_is_named_asks_and_reads_all_headers(page):
    assert asked(page, [page.evaluate("location.origin")]) == [200, 384, "mine", "1"]


def test_another_page_does_not(page):
    with pytest.raises(Exception, match="Failed to fetch"):
        asked(page, ["https://ours.example"])
