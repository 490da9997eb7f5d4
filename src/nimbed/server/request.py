"""What a handler is given, and what it returns."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple, ParamSpec, TypeVar

import orjson

from nimbed.server.fields import Fields, parse

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence, Sized

    from nimbed.server.app import App
    from nimbed.server.errors import ApiError
    from nimbed.server.load import Held
    from nimbed.server.settings import ServerSettings

    Headers = list[tuple[bytes, bytes]]
    Handler = Callable[["Request"], Awaitable["Answer"]]
    # How clients of one kind are told what is wrong.
    Dialect = Callable[[ApiError], "Answer"]

P = ParamSpec("P")
T = TypeVar("T")
A = TypeVar("A", bound="Sized")
B = TypeVar("B")

_JSON = (b"content-type", b"application/json")
# Beyond this many bytes a body is read on a thread of its own.
_INLINE_BYTES = 64 * 1024
# Texts or lists of ids that are prepared at a stretch, and their characters or ids.
_TOGETHER, _TOGETHER_SIZE = 256, 50_000


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
        held: of the body, and of what is written of the answer.
    """

    app: App
    headers: Mapping[bytes, bytes]
    body: bytes
    work: Work
    held: Held

    @property
    def settings(self) -> ServerSettings:
        """The server's."""
        return self.app.settings

    async def fields(self) -> Fields:
        """The body's fields. Raises as :func:`nimbed.server.fields.parse`."""
        return await self.apart(parse, self.body, self.app.settings.limits.text_characters)

    async def apart(self, function: Callable[P, T], *args: P.args, **more: P.kwargs) -> T:
        """What the function gives: computed at once, or where the body is large on a thread, beside the event loop."""
        if len(self.body) <= _INLINE_BYTES:
            return function(*args, **more)
        return await asyncio.to_thread(function, *args, **more)

    async def in_turn(self, function: Callable[[Sequence[A]], B], items: Sequence[A]) -> AsyncGenerator[B, None]:
        """What the function gives for some items after others, on a thread, so that others get their turn."""
        start = size = 0
        for end, item in enumerate(items, 1):
            size += len(item)
            if end - start == _TOGETHER or size >= _TOGETHER_SIZE or end == len(items):
                yield await asyncio.to_thread(function, items[start:end])
                start, size = end, 0


@dataclass(slots=True)
class Answer:
    """A response; its body in one piece or several, which are gone when they are sent."""

    body: list[bytes] = field(default_factory=list)
    status: int = 200
    headers: Headers = field(default_factory=lambda: [_JSON])

    @classmethod
    def json(cls, value: object, *, status: int = 200) -> Answer:
        """Of a value that JSON has."""
        return cls([orjson.dumps(value)], status)


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
