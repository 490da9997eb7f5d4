"""What a request can be refused for. A dialect says it in its own words; see :mod:`nimbed.server.dialects`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from nimbed.errors import BackendError, ClosedError, EncodeTimeoutError, InputError, InputTypeError

if TYPE_CHECKING:
    from collections.abc import Sequence

Kind = Literal[
    "syntax", "invalid", "empty", "too_long", "body_too_large", "body_too_slow", "headers_too_large",
    "wrong_kind_of_model", "unknown_model", "unauthorized", "forbidden", "media_type", "unknown_route", "method",
    "overloaded", "unavailable", "internal",
]  # fmt: skip

STATUS: dict[Kind, int] = {
    "syntax": 400,
    "invalid": 400,
    "empty": 400,
    "too_long": 413,
    "body_too_large": 413,
    "body_too_slow": 408,
    "headers_too_large": 431,
    "wrong_kind_of_model": 400,
    "unknown_model": 404,
    "unauthorized": 401,
    "forbidden": 403,
    "media_type": 415,
    "unknown_route": 404,
    "method": 405,
    "overloaded": 429,
    "unavailable": 503,
    "internal": 500,
}


class ApiError(Exception):
    """A request that is not answered.

    Args:
        kind: what is wrong; dialects derive their status and their words from it.
        message: for the client. It holds no text of the request but the names of fields and models.
        param: the field that is wrong.
        headers: of the response.
    """

    def __init__(
        self, kind: Kind, message: str, *, param: str | None = None, headers: Sequence[tuple[bytes, bytes]] = ()
    ) -> None:
        super().__init__(message)
        self.kind, self.message, self.param, self.headers = kind, message, param, list(headers)


def retry_later(kind: Literal["overloaded", "unavailable"], message: str, *, seconds: int = 1) -> ApiError:
    """An error that says when to try again."""
    return ApiError(kind, message, headers=[(b"retry-after", str(seconds).encode())])


def of_the_core(error: Exception) -> ApiError:
    """What a client is told of an error of the encoder's; its own message may hold a part of a text."""
    if isinstance(error, (InputError, InputTypeError)):
        return ApiError("invalid", "the model cannot read one of the texts")
    if isinstance(error, ClosedError):
        return retry_later("unavailable", "the server is stopping")
    if isinstance(error, (EncodeTimeoutError, BackendError, MemoryError)):
        return retry_later("unavailable", "the engine could not compute this now")
    return ApiError("internal", "an error that nobody foresaw; the server's log names its kind")
