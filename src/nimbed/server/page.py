"""The page at ``/ui``: files that the package ships, under a policy that lets nothing else in, and their data."""

from __future__ import annotations

import hashlib
from importlib import resources
from typing import TYPE_CHECKING

from nimbed.server.dialects import tei
from nimbed.server.request import Answer, Route
from nimbed.server.status import status

if TYPE_CHECKING:
    from nimbed.server.request import Handler, Headers, Request

POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
    b"trusted-types 'none'"
)
_SAFE: Headers = [
    (b"content-security-policy", POLICY),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
# Paths are relative to the page's own, so that an application that mounts the server may do so anywhere.
_FILES = {
    "/ui": ("page.html", b"text/html; charset=utf-8"),
    "/ui/page.css": ("page.css", b"text/css; charset=utf-8"),
    "/ui/page.js": ("page.js", b"text/javascript; charset=utf-8"),
    "/ui/icon.svg": ("icon.svg", b"image/svg+xml"),
}


def routes() -> dict[str, Route]:
    """By path; reads the files."""
    folder, found = resources.files("nimbed.server") / "ui", {}
    for path, (name, kind) in _FILES.items():
        handler = _file((folder / name).read_bytes(), kind)
        found[path] = Route({"GET": handler, "HEAD": handler}, tei.error, key="never")
    found["/ui/"] = Route({"GET": _to(b"../ui")}, tei.error, key="never")
    found["/ui/status"] = Route({"GET": _kept_nowhere}, tei.error)
    return found


def _file(body: bytes, kind: bytes) -> Handler:
    """A file as it is, or the word that the browser has it already: it asks each time, and so meets no old script."""
    tag = b'"%s"' % hashlib.sha256(body).hexdigest()[:20].encode()
    headers: Headers = [(b"content-type", kind), (b"etag", tag), (b"cache-control", b"no-cache"), *_SAFE]

    async def answer(request: Request) -> Answer:
        given = request.headers.get(b"if-none-match", b"").split(b",")
        known = any(one.strip().removeprefix(b"W/") == tag for one in given)
        return Answer([] if known else [body], 304 if known else 200, headers[1:] if known else headers)

    return answer


def _to(place: bytes) -> Handler:
    headers: Headers = [(b"location", place), (b"cache-control", b"no-store"), (b"vary", b"accept")]

    async def answer(_: Request) -> Answer:
        return Answer([], 303, headers)

    return answer


async def _kept_nowhere(request: Request) -> Answer:
    answer = await status(request)
    answer.headers = [*answer.headers, (b"cache-control", b"no-store"), *_SAFE]
    return answer


# What a browser gets that opens "/", where clients hear whether the server is ready.
LED_THERE = Route({"GET": _to(b"ui")}, tei.error, key="never")
