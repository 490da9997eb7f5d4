"""The process of ``nimbed serve``: listens, and when it is told to stop answers what it has accepted."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import threading
from typing import TYPE_CHECKING, Any, cast

from nimbed.errors import MissingExtraError

try:
    import uvicorn

    from nimbed.server.protocol import BoundedProtocol
except ImportError as err:
    raise MissingExtraError('nimbed serve needs uvicorn and httptools: pip install "nimbed[serve]"') from err

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from nimbed.server.app import App

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Server(uvicorn.Server):
    """uvicorn's, which ends with exit status 0 when it was told to stop, and says when it listens.

    Args:
        app: that answers; closed by its owner.
        ready: called with the port when it listens.
    """

    def __init__(self, app: App, ready: Callable[[int], None]) -> None:
        settings = app.settings
        config = uvicorn.Config(
            cast("Any", app),
            host=settings.host,
            port=settings.port,
            http=BoundedProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            limit_concurrency=settings.limits.connections + 1,
            timeout_keep_alive=max(1, round(settings.limits.idle_s)),
            timeout_graceful_shutdown=max(1, round(settings.limits.drain_s)),
        )
        super().__init__(config)
        self._app, self._ready = app, ready

    async def startup(self, sockets: Any = None) -> None:  # noqa: ANN401
        """Listen."""
        await super().startup(sockets)
        for server in self.servers:
            self._ready(server.sockets[0].getsockname()[1])
            break

    async def shutdown(self, sockets: Any = None) -> None:  # noqa: ANN401
        """As uvicorn's; before it cancels what is left, what is not read by then is given up."""
        giving_up = asyncio.get_running_loop().call_later(self.config.timeout_graceful_shutdown or 0, self._give_up)
        await super().shutdown(sockets)
        giving_up.cancel()

    def _give_up(self) -> None:
        for connection in list(self.server_state.connections):
            cast("BoundedProtocol", connection).give_up()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop on SIGTERM and SIGINT; unlike uvicorn's, the process does not end by the signal."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take no new connection, and say so to whoever asks whether it is ready."""
        self._app.load.draining = True
        super().handle_exit(sig, frame)


def run(app: App, ready: Callable[[int], None]) -> bool:
    """Serve until a signal; whether it ever listened.

    Args:
        app: closed at the end.
        ready: called with the port when it listens.
    """
    server = Server(app, ready)
    gc.collect()
    gc.freeze()  # no collection looks again at what was opened: some took as long as several requests do
    try:
        server.run()
    finally:
        gc.unfreeze()
        app.close()
    return server.started
