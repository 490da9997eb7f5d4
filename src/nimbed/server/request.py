"""What a handler is given, and what it returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

import orjson

from nimbed.server.fields import Fields, parse

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from nimbed.server.app import App
    from nimbed.server.errors import ApiError
    from nimbed.server.settings import ServerSettings

    Headers = list[tuple[bytes, bytes]]
    Handler = Callable[["Request"], Awaitable["Answer"]]
    # How clients of one kind are told what is wrong.
    Dialect = Callable[[ApiError], "Answer"]

_JSON = (b"content-type", b"application/json")


@dataclass(slots=True)
class Work:
    """What a request asked for and got, for metrics, spans and the access log: numbers and configured names alone."""

    model: str = ""
    texts: int = 0
    tokens: int = 0
    characters: int = 0
    truncated: int = 0
    batch: bool = False


@dataclass(slots=True)
class Request:
    """A request whose body has been read.

    Attributes:
        app: that answers it.
        headers: by lowercase name; of several of one name the last.
        body: as it came.
        work: filled in by the handler.
    """

    app: App
    headers: Mapping[bytes, bytes]
    body: bytes
    work: Work = field(default_factory=Work)

    @property
    def settings(self) -> ServerSettings:
        """The server's."""
        return self.app.settings

    async def fields(self) -> Fields:
        """The body's fields. Raises as :func:`nimbed.server.fields.parse`."""
        return await parse(self.body, self.app.settings.limits.text_characters)


@dataclass(slots=True)
class Answer:
    """A response."""

    body: bytes = b""
    status: int = 200
    headers: Headers = field(default_factory=lambda: [_JSON])

    @classmethod
    def json(cls, value: object, *, status: int = 200) -> Answer:
        """Of a value that JSON has."""
        return cls(orjson.dumps(value), status)


class Route(NamedTuple):
    """What answers a path.

    Attributes:
        handler: by method.
        dialect: of its errors.
        key: whether it needs one (where there are keys): "always", "protected" where the settings protect health, or
            "never".
        browsers: what answers in its place where a browser opens it.
    """

    handler: Mapping[str, Handler]
    dialect: Dialect
    key: Literal["always", "protected", "never"] = "always"
    browsers: Route | None = None
