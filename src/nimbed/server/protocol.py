"""uvicorn's HTTP protocol with bounds on what comes before a request is known, and after it has been answered."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    import asyncio

    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

    from nimbed.server.app import App

_INVALID = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
# An answer in pieces may take so many times the limit for the next to be read.
_PIECES = 8


class BoundedProtocol(HttpToolsProtocol):
    """A connection must begin a request, and end its headers, within ``idle_s``, and read its answer in ``timeout_s``.

    What it sends after an answer must be a request within that time as well. Headers are of bounded size. An offer to
    upgrade to another protocol is passed over (RFC 9110, section 7.8). What is no request is answered where it does not
    become a part of an answer before, and ends the connection.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 (uvicorn's own)
        super().__init__(*args, **kwargs)
        limits = cast("App", self.config.app).settings.limits
        self._max_header_bytes, self._idle_s = limits.header_bytes, limits.idle_s
        self._header_bytes = 0
        self._in_headers = True
        # Whether what came last began with another request's headers or body: then it is not all of these headers.
        self._in_midst = False
        self._deadline: asyncio.TimerHandle | None = None
        self._read_by: asyncio.TimerHandle | None = None
        self._all_read_by: asyncio.TimerHandle | None = None
        self._unanswered: deque[RequestResponseCycle] = deque()  # in the order in which they came
        self._refused = False
        self._timeout_s = limits.timeout_s

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """It has to say something."""
        super().connection_made(transport)
        self._expect_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over, for all that it has asked; uvicorn tells what it asked last alone."""
        self._got_headers()
        self._reads()
        self._has_read_all()
        self.pipeline.clear()
        for cycle in self._unanswered:
            cycle.disconnected = True
            cycle.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse, and stop where headers do not end."""
        self._unset_keepalive_if_required()
        if self._refused:
            return
        self._in_midst = not self._in_headers
        try:
            self._parse(data)
        except httptools.HttpParserError:
            self._refuse(_INVALID)
            return
        if self._in_headers:
            self._header_bytes += self._known_bytes() if self._in_midst else len(data)
            if self._header_bytes > self._max_header_bytes:
                self._refuse(_TOO_LARGE)

    def _refuse(self, answer: bytes) -> None:
        """Close when all is answered that came before; where there is nothing, after this answer."""
        self._refused = True
        if self._unanswered and self._unanswered[-1].more_body and not self._unanswered[-1].response_started:
            self._unanswered.pop()  # it is its body
            if self._unanswered:
                self.pipeline.popleft()
        if self._unanswered:
            self._unanswered[-1].keep_alive = False
        elif not self.transport.is_closing():
            self.transport.write(answer)
            self.transport.close()
            self._must_read()

    def _known_bytes(self) -> int:
        return len(self.url) + sum(len(name) + len(value) for name, value in self.headers)

    def _parse(self, data: bytes) -> None:
        """Feed the parser; one that has stopped at an offer to upgrade begins anew with a head without it."""
        while data:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as offer:
                if (method := self.parser.get_method()) == b"CONNECT":
                    raise httptools.HttpParserError from None
                head = [b"%s %s HTTP/%s" % (method, self.url, self.parser.get_http_version().encode())]
                head += [b"%s: %s" % (name, value) for name, value in self.headers if name != b"upgrade"]
                data = b"\r\n".join(head) + b"\r\n\r\n" + data[offer.args[0] :]
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's own
                continue
            return

    def pause_writing(self) -> None:
        """The client does not read its answer; it shall not keep it here for ever, nor read it byte by byte."""
        super().pause_writing()
        self._must_read()
        if self._all_read_by is None:
            self._all_read_by = self.loop.call_later(_PIECES * self._timeout_s, self.transport.abort)

    def resume_writing(self) -> None:
        """It does."""
        self._reads()
        super().resume_writing()

    def give_up(self) -> None:
        """The server stops: an answer that is being sent has no end."""
        if any(cycle.response_started for cycle in self._unanswered):
            self.transport.abort()

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._expect_headers()

    def on_headers_complete(self) -> None:
        """A request is known, and goes to the application."""
        self._got_headers()
        self._in_midst = True
        if not self.parser.should_upgrade():
            super().on_headers_complete()
            self._unanswered.append(self.cycle)

    def on_message_complete(self) -> None:
        """Its body is there."""
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """It is answered; what comes next, be it the rest of a body that nobody reads, has its time too."""
        while self._unanswered and self._unanswered[0].response_complete:
            self._unanswered.popleft()
        super().on_response_complete()
        if not self._unanswered and self._deadline is None and not self.transport.is_closing():
            self._deadline = self.loop.call_later(self._idle_s, self.transport.close)
        self._has_read_all()
        self._must_read()

    def _must_read(self) -> None:
        """What is written has to be read in time, also where it is too little for the transport to say so."""
        self._reads()
        if self.transport.get_write_buffer_size():
            self._read_by = self.loop.call_later(self._timeout_s, self._unread)

    def _unread(self) -> None:
        if self.transport.get_write_buffer_size():
            self.transport.abort()

    def _has_read_all(self) -> None:
        if self._all_read_by is not None:
            self._all_read_by.cancel()
            self._all_read_by = None

    def _reads(self) -> None:
        if self._read_by is not None:
            self._read_by.cancel()
            self._read_by = None

    def _expect_headers(self) -> None:
        self._got_headers()
        self._in_headers, self._header_bytes = True, 0
        if self.cycle is None or self.cycle.response_complete:  # else when the one before is answered
            self._deadline = self.loop.call_later(self._idle_s, self.transport.close)

    def _got_headers(self) -> None:
        self._in_headers = False
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
