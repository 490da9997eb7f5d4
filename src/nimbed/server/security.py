"""Whom the server answers: Host, Origin, key and content type, before a body is read."""

from __future__ import annotations

import hmac
import re
from ipaddress import IPv6Address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from nimbed.server.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nimbed.server.request import Headers, Route
    from nimbed.server.settings import ServerSettings

    Given = Mapping[bytes, bytes]

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
_HEADER_NAMES = re.compile(rb"[A-Za-z0-9_, -]{1,1024}")
_CHALLENGE = [(b"www-authenticate", b"Bearer")]


class Guard:
    """Checks the headers of each request.

    Args:
        settings: of the server.
    """

    def __init__(self, settings: ServerSettings) -> None:
        access = settings.access
        self._keys = [key.encode() for key in access.keys]
        self._protect_health = access.protect_health
        self._origins = {origin.encode() for origin in access.origins}
        named = {plain_name(host) for host in access.hosts}
        own = {plain_name(settings.host)} if settings.on_loopback else set()
        # Beyond loopback the names that lead here are known to those alone who run it.
        self._hosts = {*_LOOPBACK, *own, *named} if named or settings.on_loopback else None
        self._max_header_bytes = settings.limits.header_bytes
        self._known_hosts: set[bytes] = set()

    def check(self, method: str, route: Route, headers: Given, size: int) -> None:
        """Refuse what is not for us.

        Args:
            method: of the request.
            route: that would answer it.
            headers: by lowercase name.
            size: of all headers, in bytes.

        Raises:
            ApiError: says why.
        """
        if size > self._max_header_bytes:
            raise ApiError("headers_too_large", f"headers of more than {self._max_header_bytes} bytes")
        self._check_host(headers.get(b"host", b""))
        if (origin := headers.get(b"origin")) is not None:
            self._check_origin(origin, headers.get(b"host", b""))
        if self._keys and (route.key == "always" or (route.key == "protected" and self._protect_health)):
            self._check_key(headers.get(b"authorization", b""))
        if method == "POST":
            _check_content(headers)

    def cors(self, headers: Given) -> Headers:
        """What a web page of an allowed origin needs to see an answer, and its headers."""
        origin = headers.get(b"origin")
        if origin is None or origin not in self._origins:
            return []
        shown = (b"access-control-expose-headers", b"*")
        return [(b"access-control-allow-origin", origin), shown, (b"vary", b"origin")]

    def preflight(self, headers: Given) -> Headers:
        """What a browser asks, beside :meth:`cors`, before it lets a page of an allowed origin post."""
        if headers.get(b"origin") not in self._origins:
            return []
        names = headers.get(b"access-control-request-headers", b"")  # OpenAI's package sends a dozen of its own
        if not _HEADER_NAMES.fullmatch(names):
            names = b"authorization, content-type"
        return [
            (b"access-control-allow-methods", b"GET, POST"),
            (b"access-control-allow-headers", names),
            (b"access-control-max-age", b"600"),
        ]

    def _check_host(self, host: bytes) -> None:
        if self._hosts is None or host in self._known_hosts:
            return
        if host_name(host) not in self._hosts:
            raise ApiError("forbidden", "the Host header names none of this server's names (--allow-host)")
        if len(self._known_hosts) < 64:  # a client chooses the port that it writes there
            self._known_hosts.add(host)

    def _check_origin(self, origin: bytes, host: bytes) -> None:
        if origin in self._origins or (origin.partition(b"://")[2] == host and host):
            return
        raise ApiError("forbidden", "web pages of this origin may not ask (--cors-origin)")

    def _check_key(self, authorization: bytes) -> None:
        scheme, _, given = authorization.partition(b" ")
        # All are compared, so that the time does not tell which one was near.
        found = [hmac.compare_digest(given.strip(), key) for key in self._keys]
        if scheme.lower() != b"bearer" or not any(found):
            raise ApiError("unauthorized", "a valid key is needed: Authorization: Bearer KEY", headers=_CHALLENGE)


def host_name(host: bytes) -> str:
    """The name in a Host header, without the port; empty where it is none."""
    try:
        return plain_name(urlsplit(f"//{host.decode('ascii')}").hostname or "")
    except ValueError:
        return ""


def plain_name(host: str) -> str:
    """A name or an address in the one form that is compared."""
    return IPv6Address(host).compressed if ":" in host else host.lower()


def request_id(headers: Given) -> bytes | None:
    """The client's, where it is one that a log can hold."""
    given = headers.get(b"x-request-id")
    return given if given is not None and _REQUEST_ID.fullmatch(given) else None


def _check_content(headers: Given) -> None:
    kind = headers.get(b"content-type", b"")
    if kind != b"application/json" and kind.partition(b";")[0].strip().lower() != b"application/json":
        raise ApiError("media_type", "the body must be JSON: Content-Type: application/json")
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise ApiError("media_type", "compressed bodies are not read: send no Content-Encoding")
