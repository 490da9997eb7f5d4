"""The page's files: whole, alone, under a policy that lets nothing else in."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from importlib import resources

import httpx
import pytest
from tests.support.servers import client_of, fake_app

from nimbed.server import Access

KEY = "k3y-of-sixteen-characters"
FILES = {
    "/ui": "text/html; charset=utf-8",
    "/ui/page.css": "text/css; charset=utf-8",
    "/ui/page.js": "text/javascript; charset=utf-8",
    "/ui/icon.svg": "image/svg+xml",
}
BROWSER = {"accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


def policy_of(answer: httpx.Response) -> dict[str, str]:
    parts = (one.strip().partition(" ") for one in answer.headers["content-security-policy"].split(";"))
    return {name: value for name, _, value in parts}


@pytest.mark.parametrize("path", FILES)
async def test_a_file_comes_whole_and_safe(client, path):
    answer = await client.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == FILES[path]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    policy = policy_of(answer)
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' data:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }
    head = await client.head(path)
    assert head.content == b""
    assert int(head.headers["content-length"]) == len(answer.content)
    assert (await client.post(path, json={})).status_code == 405


async def test_a_browser_that_has_a_file_is_told_so(client):
    first = await client.get("/ui/page.js")
    assert first.headers["cache-control"] == "no-cache"
    for known in (first.headers["etag"], f'"other", W/{first.headers["etag"]}'):
        again = await client.get("/ui/page.js", headers={"if-none-match": known})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == first.headers["etag"]
        assert "content-length" not in again.headers
        assert "content-security-policy" in again.headers
    assert (await client.get("/ui/page.js", headers={"if-none-match": '"other"'})).status_code == 200
    tags = {(await client.get(path)).headers["etag"] for path in FILES}
    assert len(tags) == len(FILES)


class Markup(HTMLParser):
    """What a page loads, and what a policy without 'unsafe-inline' would refuse."""

    def __init__(self):
        super().__init__()
        self.loaded, self.inline, self.ids, self.within = [], [], [], ""

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.within = tag
        self.loaded += [given[name] for name in ("src", "href") if name in given and not given[name].startswith("#")]
        self.inline += [name for name in given if name == "style" or name.startswith("on")]
        self.ids += [given["id"]] if "id" in given else []

    def handle_endtag(self, tag):
        self.within = ""

    def handle_data(self, data):
        if self.within in {"script", "style"} and data.strip():
            self.inline.append(data)


async def test_the_page_loads_its_own_files_by_relative_paths(client):
    markup = Markup()
    markup.feed((await client.get("/ui")).text)
    assert markup.inline == []
    assert set(markup.loaded) == {"ui/page.css", "ui/page.js", "ui/icon.svg"}
    assert len(markup.ids) == len(set(markup.ids))


@pytest.mark.parametrize("path", FILES)
async def test_no_file_names_another_place(client, path):
    """Not by address, and not by a path from the root, which another application's prefix would break."""
    text = (await client.get(path)).text.replace("http://www.w3.org/2000/svg", "")
    assert not re.findall(r"https?:|[\"'(]//|@import|url\((?!#)", text)
    assert not re.findall(r"(?:src|href|fetch\(|ask\()[=(\s]*[\"'`]/", text)


async def test_the_script_makes_no_markup_of_texts_and_keeps_no_key(client):
    script = (await client.get("/ui/page.js")).text
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "DOMParser", "eval(", "new Function",
                 "localStorage", "sessionStorage", "indexedDB", "cookie"):  # fmt: skip
        assert word not in script


async def test_the_script_finds_every_element_that_it_asks_for(client):
    script, markup = (await client.get("/ui/page.js")).text, Markup()
    markup.feed((await client.get("/ui")).text)
    asked = set(re.findall(r"\$\(\"([\w-]+)\"\)", script)) | set(re.findall(r"show\(\"([\w-]+)\"", script))
    assert len(asked) > 20
    assert asked <= set(markup.ids)


def test_all_files_of_the_folder_are_served():
    folder = resources.files("nimbed.server") / "ui"
    assert {one.name for one in folder.iterdir()} == {"page.html", "page.css", "page.js", "icon.svg"}


async def test_a_browser_at_the_root_is_led_to_the_page_and_clients_are_not(client):
    answer = await client.get("/", headers=BROWSER)
    assert (answer.status_code, answer.headers["location"]) == (303, "ui")
    assert answer.headers["cache-control"] == "no-store"
    for accept in ("*/*", "application/json", ""):
        answer = await client.get("/", headers={"accept": accept})
        assert (answer.status_code, answer.content) == (200, b"")
    assert (await client.head("/", headers=BROWSER)).status_code == 200
    posted = await client.post("/", json={"inputs": "a"}, headers=BROWSER)
    assert len(posted.json()[0]) == 384
    slash = await client.get("/ui/")
    assert slash.next_request.url.path == "/ui"


@pytest.mark.parametrize("protect_health", [False, True])
async def test_the_files_need_no_key_and_the_data_does(protect_health):
    app = fake_app(access=Access(keys=[KEY], protect_health=protect_health))
    async with client_of(app) as client:
        for path in FILES:
            assert (await client.get(path)).status_code == 200
        assert (await client.get("/", headers=BROWSER)).status_code == 303
        assert (await client.get("/")).status_code == 401
        assert (await client.get("/ui/status")).status_code == 401
        assert (await client.get("/ui/status", headers={"authorization": f"Bearer {KEY}"})).status_code == 200
    app.close()


async def test_the_host_is_checked_for_the_page_too(app):
    async with client_of(app, base_url="http://evil.example") as client:
        for path in (*FILES, "/ui/status"):
            assert (await client.get(path)).status_code == 403


async def test_below_a_prefix_all_is_where_the_page_looks(app):
    """As an application mounts another: it names the prefix, and leaves it in the path."""
    transport = httpx.ASGITransport(app=app, root_path="/models")
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080") as client:
        root = await client.get("/models/", headers=BROWSER)
        page = await client.get(root.next_request.url)
        assert page.url.path == "/models/ui"
        for relative in ("ui/page.css", "ui/page.js", "ui/icon.svg", "ui/status", "v1/models"):
            assert (await client.get(page.url.join(relative))).status_code == 200
