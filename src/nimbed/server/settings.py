"""What is served, and how: the settings of :func:`nimbed.server.create_app`, checked."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, get_args

from nimbed._text.checks import check_whole
from nimbed._types import Precision, Role
from nimbed.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

TokenIds = Literal["refuse", "own"]
# Of a key, at least: what is shorter can be guessed.
_KEY_CHARACTERS = 16
_ROLES = get_args(Role)
# A name or an address, without a port; an origin as browsers send it, which is compared as it is.
_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?")
_ORIGIN = re.compile(
    r"(?!http://.*:80$|https://.*:443$)[a-z][a-z0-9+.-]*://"
    r"(?:[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?|\[[0-9a-f:.]+\])(?::[1-9][0-9]{0,4})?"
)


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """A model that is opened; what it is (an embedder or a reranker) its own files say.

    Attributes:
        model: hub id, model folder or artefact folder.
        name: that requests use, and metrics; None takes the hub id or the folder's name.
        role: of requests that name none: "document" or "query".
        backend, precision, max_length, dim, threads: as in :class:`nimbed.Encoder`.
        cache: size in bytes or URL of the cache of vectors; 0 for none.
        task, pooling: as in :class:`nimbed.SpecOverrides`.
        revision, offline: as in :class:`nimbed.Source`.
    """

    model: str
    name: str | None = None
    role: Role = "document"
    backend: str = "auto"
    precision: Precision | Literal["auto"] = "auto"
    max_length: int | None = None
    dim: int | None = None
    threads: int | None = None
    cache: int | str = 64 * 1024 * 1024
    task: str | None = None
    pooling: str | None = None
    revision: str | None = None
    offline: bool = False

    def __post_init__(self) -> None:
        _check_role(self.role)


@dataclass(frozen=True, kw_only=True)
class Alias:
    """Another name of a model, which requests may use.

    Attributes:
        name: that requests use.
        model: as the settings name it; None where one model is served.
        role: of requests that use this name and say no role of their own; None takes the model's.
    """

    name: str
    model: str | None = None
    role: Role | None = None

    def __post_init__(self) -> None:
        if not self.name or not self.name.isprintable() or self.name.startswith("@") or self.model == "":
            raise InputError(
                f"alias {self.name!r} is no name, or is one of no model: NAME, NAME=MODEL or NAME=MODEL@ROLE"
            )
        if self.role is not None:
            _check_role(self.role)

    @classmethod
    def parse(cls, text: str) -> Alias:
        """From ``NAME[=MODEL][@query|@document]``, as the command line has it."""
        name, _, model = text.partition("=")
        rest, _, role = (model or name).rpartition("@")
        if role not in _ROLES or not rest:
            return cls(name=name, model=model if "=" in text else None)
        return cls(name=name if model else rest, model=rest if model else None, role=role)  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True)
class Access:
    """Who may ask.

    Attributes:
        keys: any of them opens; none means that no key is asked for.
        insecure: listen beyond loopback without a key.
        hosts: further names in the Host header. Those of loopback are always allowed; where the server listens beyond
            it and none is given, any is.
        origins: of web pages that may ask (CORS); none by default.
        protect_health: ask for the key for health and metrics too.
    """

    keys: Sequence[str] = field(default=(), repr=False)
    insecure: bool = False
    hosts: Sequence[str] = ()
    origins: Sequence[str] = ()
    protect_health: bool = False

    def __post_init__(self) -> None:
        for name in ("keys", "hosts", "origins"):
            if isinstance(given := getattr(self, name), str) or not all(isinstance(one, str) for one in given):
                raise InputError(f"access: {name} must be a list of strings")
        for host in self.hosts:
            if not (_is_ipv6(host) if ":" in host else _HOST.fullmatch(host)):
                raise InputError(f"access: hosts: {host!r} is no name without a port, as embed.example.org is")
        for origin in self.origins:
            if not _ORIGIN.fullmatch(origin):
                raise InputError(f"access: origins: {origin!r} is not as browsers write one: https://app.example.org")
        for key in self.keys:
            if len(key) < _KEY_CHARACTERS or not key.isascii() or not key.isprintable() or " " in key:
                raise InputError(
                    f"an API key has {_KEY_CHARACTERS} printable ASCII characters or more and no space; make one with "
                    "`openssl rand -hex 32` (it is not shown here)"
                )


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds on what a client may take.

    Attributes:
        queue: requests that are answered or wait; further ones get 429.
        body_bytes: of one request; all bodies and answers at once may have eight times as many beside those of 64 KiB
            and less, and so may one answer.
        header_bytes: of one request.
        text_characters: of one text, before it is tokenized.
        connections: open at once.
        timeout_s: for a body to come, its first texts to be done included, and from then on until further ones are.
        idle_s: that a connection may be silent, or take for its headers.
        drain_s: that accepted requests may take when the server stops.
    """

    queue: int = 512
    body_bytes: int = 32 * 1024 * 1024
    header_bytes: int = 16 * 1024
    text_characters: int = 400_000
    connections: int = 1024
    timeout_s: float = 60.0
    idle_s: float = 30.0
    drain_s: float = 30.0

    @property
    def held_bytes(self) -> int:
        """Of all bodies and answers at once, and of one answer."""
        return 8 * self.body_bytes

    def __post_init__(self) -> None:
        for name in ("queue", "body_bytes", "header_bytes", "text_characters", "connections"):
            check_whole(getattr(self, name), f"limits: {name}", minimum=1)
        for name in ("timeout_s", "idle_s", "drain_s"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
                raise InputError(f"limits: {name}={value!r} must be seconds above 0")


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """All of it.

    Attributes:
        models: one or more; requests that name none get the first of the kind that they need.
        aliases: further names.
        host, port: where the server listens.
        access: who may ask.
        limits: how much.
        token_ids: what is done with token ids in place of texts: "refuse", or "own" where they are this model's own.
        access_log: write a line of JSON for each request to the logger ``nimbed.access``.
        traces: an OpenTelemetry span for each request (extra ``otel``).
    """

    models: Sequence[ModelSettings]
    aliases: Sequence[Alias] = ()
    host: str = "127.0.0.1"
    port: int = 8080
    access: Access = field(default_factory=Access)
    limits: Limits = field(default_factory=Limits)
    token_ids: TokenIds = "refuse"  # noqa: S105 (no password)
    access_log: bool = False
    traces: bool = False

    def __post_init__(self) -> None:
        if not self.models:
            raise InputError("no model is given: nimbed serve MODEL [MODEL...]")
        check_whole(self.port, "port", minimum=0, maximum=65535)
        if self.token_ids not in get_args(TokenIds):
            raise InputError(f"token_ids={self.token_ids!r} is not one of refuse, own")
        if not (self.on_loopback or self.access.keys or self.access.insecure):
            raise InputError(
                f"host={self.host!r} lets other machines ask: give a key (--api-key-file FILE, or NIMBED_API_KEY), or "
                "say --insecure if whoever can reach it may use it"
            )

    @property
    def on_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def _is_ipv6(host: str) -> bool:
    try:
        return "%" not in host and bool(ipaddress.IPv6Address(host))
    except ValueError:
        return False


def _check_role(role: object) -> None:
    if role not in _ROLES:
        raise InputError(f"role={role!r} is not one of {', '.join(_ROLES)}")
