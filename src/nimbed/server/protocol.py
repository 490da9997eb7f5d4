"""uvicorn's HTTP protocol with bounds on what comes before a request is known: size and time of its headers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    import asyncio

    from nimbed.server.app import App

_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class BoundedProtocol(HttpToolsProtocol):
    """A connection must begin a request, and end its headers, within ``idle_s``, and read its answer.

    Headers are of bounded size.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 (uvicorn's own)
        super().__init__(*args, **kwargs)
        limits = cast("App", self.config.app).settings.limits
        self._max_header_bytes, self._idle_s = limits.header_bytes, limits.idle_s
        self._header_bytes = 0
        self._in_headers = True
        self._deadline: asyncio.TimerHandle | None = None
        self._read_by: asyncio.TimerHandle | None = None
        self._timeout_s = limits.timeout_s

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """It has to say something."""
        super().connection_made(transport)
        self._expect_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        self._got_headers()
        self._reads()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse, and stop where headers do not end."""
        super().data_received(data)
        if self._in_headers:
            self._header_bytes += len(data)
            if self._header_bytes > self._max_header_bytes and not self.transport.is_closing():
                self.transport.write(_TOO_LARGE)
                self.transport.close()

    def pause_writing(self) -> None:
        """The client does not read its answer; it shall not keep it here for ever."""
        super().pause_writing()
        self._read_by = self.loop.call_later(self._timeout_s, self.transport.abort)

    def resume_writing(self) -> None:
        """It does."""
        self._reads()
        super().resume_writing()

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._expect_headers()

    def on_headers_complete(self) -> None:
        """A request is known, and goes to the application."""
        self._got_headers()
        super().on_headers_complete()

    def _reads(self) -> None:
        if self._read_by is not None:
            self._read_by.cancel()
            self._read_by = None

    def _expect_headers(self) -> None:
        self._got_headers()
        self._in_headers, self._header_bytes = True, 0
        self._deadline = self.loop.call_later(self._idle_s, self.transport.close)

    def _got_headers(self) -> None:
        self._in_headers = False
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
