"""One request on its way: checked, read, answered, sent, counted. Whatever ends it early frees its work."""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from typing import TYPE_CHECKING, Any, Literal

from nimbed.errors import NimbedError
from nimbed.server.dialects import openai, tei
from nimbed.server.errors import ApiError, of_the_core, retry_later
from nimbed.server.request import Answer, Request, Route, Work
from nimbed.server.security import request_id

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from nimbed.server.app import App

    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]

logger = logging.getLogger("nimbed")

# How long a request runs before somebody looks whether its client is still there: most are answered by then, and a
# task that looks costs as much as all else that is done for a short one.
_WATCH_AFTER_S = 0.25
_PIECE = 256 * 1024  # bytes of an answer that are sent at once
GONE = 499  # as nginx has it: the client went before there was an answer
_WITHOUT_BODY = (204, 304)  # nor a length, which would be that of the body that was left out
_UNKNOWN = Route({}, tei.error)
_UNKNOWN_V1 = Route({}, openai.error)


class Exchange:
    """A request and its response.

    Args:
        app: that answers.
        scope, receive, send: as ASGI has them.
    """

    __slots__ = ("_app", "_ended", "_held", "_receive", "_route", "_scope", "_send", "_task", "_timers", "_watcher",
                 "headers", "id", "method", "path", "reading", "seconds", "status", "work")  # fmt: skip

    def __init__(self, app: App, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        self._app, self._scope, self._receive, self._send = app, scope, receive, send
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.id = request_id(self.headers) or app.next_id()
        self.method: str = scope["method"]
        path: str = scope["path"].removeprefix(scope.get("root_path", "")) or "/"
        known = app.routes.get(path)
        self.path = path if known else "-"  # of what is unknown nothing is logged or counted
        self._route = known or (_UNKNOWN_V1 if path.startswith("/v1/") else _UNKNOWN)
        if self._route.browsers and self.method == "GET" and b"text/html" in self.headers.get(b"accept", b""):
            self._route = self._route.browsers
        self._ended: Literal["", "gone", "late"] = ""
        self._held = app.load.held()
        self.status = 0
        self._timers: list[asyncio.TimerHandle] = []
        self._watcher: asyncio.Task[None] | None = None
        self._task: asyncio.Task[Any] | None = None
        self.work = Work()
        self.reading = False
        self.seconds = 0.0

    async def run(self) -> None:
        """All of it."""
        started, span = time.perf_counter(), self._app.tracing.start(self)
        self._task, loop = asyncio.current_task(), asyncio.get_running_loop()
        self._timers.append(loop.call_later(self._app.settings.limits.timeout_s, self._late, 0))
        try:
            answer = await self._answer()
            self.status = GONE if answer is None else answer.status
            if answer is not None:
                await self._respond(answer)
        except BaseException:
            self.status = self.status or GONE
            raise
        finally:
            for timer in self._timers:
                timer.cancel()
            if self._watcher is not None:
                self._watcher.cancel()
            self._held.keep(0)
            self.seconds = time.perf_counter() - started
            self._app.done(self, span)

    async def _answer(self) -> Answer | None:
        """The answer, or the error in its dialect's words; None where the client has gone."""
        try:
            return await self._handled()
        except ApiError as err:
            error = err
        except NimbedError as err:
            error = of_the_core(err)
        except asyncio.CancelledError:
            if self._ended == "gone":
                return None
            if not self._ended and not self._app.load.draining:
                raise
            error = self._too_late() if self._ended else retry_later("unavailable", "the server is stopping")
        except Exception as err:  # noqa: BLE001 (whatever it is, the client gets an answer and the log gets no text)
            where = "".join(traceback.format_tb(err.__traceback__))
            logger.error("request %s met %s\n%s", self.id.decode(), type(err).__name__, where)  # noqa: TRY400
            error = of_the_core(err)
        answer = self._route.dialect(error)
        answer.headers = [*answer.headers, *error.headers]
        return answer

    async def _handled(self) -> Answer:
        app, headers = self._app, self.headers
        size = len(self._scope.get("raw_path") or b"") + len(self._scope.get("query_string", b""))
        size += sum(len(name) + len(value) for name, value in self._scope["headers"])
        if self.method == "OPTIONS" and b"access-control-request-method" in headers:
            return Answer(status=204, headers=app.guard.preflight(headers))
        app.guard.check(self.method, self._route, headers, size)
        handler = self._route.handler.get(self.method)
        if handler is None:
            raise self._no_handler()
        if self.method != "POST":
            return await handler(Request(app, headers, b"", self.work, self._held))
        app.load.enter()
        app.recent.wake()
        try:
            body = await self._body()
            self._timers.append(asyncio.get_running_loop().call_later(_WATCH_AFTER_S, self._watch))
            return await handler(Request(app, headers, body, self.work, self._held))
        finally:
            app.load.leave()

    async def _body(self) -> bytes:
        self.reading = True
        limit = self._app.settings.limits.body_bytes
        declared = self.headers.get(b"content-length", b"0")
        if len(declared) > 18 or not declared.isdigit() or int(declared) > limit:
            raise self._too_large(limit)
        parts: list[bytes] = []
        more = True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self._end("gone")
                await asyncio.sleep(0)  # where the cancellation arrives
            part: bytes = message.get("body", b"")
            if self._held.size + len(part) > limit:
                raise self._too_large(limit)
            self._held.take(len(part))
            parts.append(part)
            more = message.get("more_body", False)
        self.reading = False
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _respond(self, answer: Answer) -> None:
        """Send it, and hold what is not sent yet in place of the body."""
        self._held.keep(size := sum(map(len, answer.body)))
        headers = [*answer.headers, (b"x-request-id", self.id)]
        if answer.status not in _WITHOUT_BODY:
            headers.append((b"content-length", str(size).encode()))
        if self.work.truncated and answer.status == 200:
            headers.append((b"x-truncated-texts", str(self.work.truncated).encode()))
        if self.headers.get(b"origin") is not None:
            headers += self._app.guard.cors(self.headers)
        await self._send({"type": "http.response.start", "status": answer.status, "headers": headers})
        pieces = [] if self.method == "HEAD" else answer.body
        if size > _PIECE and pieces:
            pieces.reverse()
            while pieces:
                await self._send_piece(pieces.pop())
        await self._send({"type": "http.response.body", "body": b"".join(pieces)})

    async def _send_piece(self, piece: bytes) -> None:
        """A part after another, the next when the client has read enough of those before."""
        for start in range(0, len(piece), _PIECE):
            part = piece[start : start + _PIECE]
            await self._send({"type": "http.response.body", "body": part, "more_body": True})
            self._held.keep(self._held.size - len(part))

    def _watch(self) -> None:
        self._watcher = asyncio.get_running_loop().create_task(self._wait_for_the_end())

    async def _wait_for_the_end(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._end("gone")

    def _late(self, tokens: int) -> None:
        """End what no further text has been done of since the last look."""
        if self.work.tokens == tokens:
            self._end("late")
            return
        seconds, loop = self._app.settings.limits.timeout_s, asyncio.get_running_loop()
        self._timers.append(loop.call_later(seconds, self._late, self.work.tokens))

    def _end(self, why: Literal["gone", "late"]) -> None:
        """Cancel what is computed, and with it all that it holds."""
        if not self._ended and not self.status and self._task is not None:
            self._ended = why
            self._task.cancel()

    def _too_late(self) -> ApiError:
        if self.reading:
            return ApiError("body_too_slow", "the body did not come in time", headers=[(b"connection", b"close")])
        seconds = self._app.settings.limits.timeout_s
        return retry_later("unavailable", f"no text was done for {seconds:g} seconds; send less at once, or later")

    def _too_large(self, limit: int) -> ApiError:
        return ApiError("body_too_large", f"the body has more than {limit} bytes (--max-body)")

    def _no_handler(self) -> ApiError:
        if not self._route.handler:
            return ApiError("unknown_route", "there is no such route")
        allowed = ", ".join(self._route.handler)
        return ApiError("method", f"use {allowed}", headers=[(b"allow", allowed.encode())])
