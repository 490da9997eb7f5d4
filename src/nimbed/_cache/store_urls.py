"""The URLs of shared tiers: what they may say, and what of them may be shown."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote, urlsplit

from nimbed.errors import InputError

if TYPE_CHECKING:
    from urllib.parse import SplitResult

_SCHEMES = ("redis", "rediss", "unix", "sqlite")
_SECRET = {"username", "password", "ssl_password"}
# Options of redis-py that a URL may have; what is missing here, nimbed sets itself, or it would change the replies.
_OPTIONS = {"client_name", "db", "health_check_interval", "protocol", "socket_keepalive", "username", "password"}
_SSL_OPTIONS = {
    "ssl_ca_certs", "ssl_ca_path", "ssl_cert_reqs", "ssl_certfile", "ssl_check_hostname", "ssl_keyfile", "ssl_password",
}  # fmt: skip
_FORMS = "redis://[user:password@]host[:port][/number], rediss://..., unix:///path or sqlite:///path/to/file"
_ESCAPED = "special characters of a password or file name must be percent-encoded"


def check_url(url: str, *, source: str = "cache") -> None:
    """The form of a tier's URL, named as ``source`` in messages.

    Raises:
        InputError: says what would do; never shows the URL, which may hold a password.
    """
    fault = _fault(url)
    if fault:  # outside of any except: a cause may quote a part of the URL
        raise InputError(f"{source}: {fault} (it is not shown here, since it may hold a password)")


def has_credentials(url: str) -> bool:
    """Whether the URL holds a user name or password."""
    parts = urlsplit(url)
    return "@" in parts.netloc or bool(_SECRET & {name for name, _ in parse_qsl(parts.query)})


def without_credentials(url: str) -> str:
    """Scheme, host, port and path."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def sqlite_path(url: str) -> str:
    """The file that a ``sqlite:///`` URL names."""
    return unquote(url.removeprefix("sqlite:///"), errors="surrogateescape")


def _fault(url: object) -> str | None:
    """What is wrong with a URL."""
    if not isinstance(url, str):
        return f"a URL must be a string, not {type(url).__name__}"
    scheme, mark, rest = url.partition("://")
    if not mark or scheme not in _SCHEMES or not rest.strip("/"):
        return f"a URL must be {_FORMS}"
    if "#" in url or _has_controls(url) or _has_controls(unquote(rest.rpartition("@")[2])):
        return f"a URL holds no #, and no line breaks or other control characters; {_ESCAPED}"
    if scheme == "sqlite":
        named = rest[0] == "/" and "?" not in rest and not rest.startswith("/:memory:")  # which nobody shares
        return None if named else f"a SQLite URL is sqlite:///path/to/file; {_ESCAPED}"
    try:
        parts = urlsplit(url)
        _ = parts.port
        unquote(parts.hostname or "").encode("idna")
    except ValueError:
        return f"a URL must be {_FORMS}; {_ESCAPED}"
    return _place_fault(parts) or _option_fault(parts)


def _has_controls(text: str) -> bool:
    return any(ord(character) < 32 or ord(character) == 127 for character in text)


def _place_fault(parts: SplitResult) -> str | None:
    if parts.scheme == "unix":
        sound = not parts.netloc.rpartition("@")[2] and bool(parts.path.strip("/"))
        return None if sound else "a URL of a socket is unix:///path"
    number = parts.path.strip("/")
    sound = bool(parts.hostname) and (number.isdecimal() or parts.path in {"", "/"})
    return None if sound else f"a URL must be {_FORMS}; {_ESCAPED}"


def _option_fault(parts: SplitResult) -> str | None:
    known = _OPTIONS | (_SSL_OPTIONS if parts.scheme == "rediss" else set())
    if not parts.query:
        return None
    try:
        names = {name for name, _ in parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True)}
    except ValueError:
        names = {""}
    # An option's name may be a piece of a password: what is known is named instead.
    if names <= known and "@" not in parts.query:
        return None
    return f"behind the ? of a {parts.scheme}:// URL may come {', '.join(sorted(known))}; {_ESCAPED}"
