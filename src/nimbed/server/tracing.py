"""A span for each request, in the trace that its headers name; through OpenTelemetry's API alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nimbed import __version__
from nimbed.errors import MissingExtraError

if TYPE_CHECKING:
    from nimbed.server.exchange import Exchange


class Tracing:
    """Starts and ends spans; does nothing unless it is wanted.

    Args:
        wanted: whether there shall be spans.

    Raises:
        MissingExtraError: OpenTelemetry's API is not installed.
    """

    def __init__(self, *, wanted: bool) -> None:
        self._trace: Any = None
        if not wanted:
            return
        try:
            from opentelemetry import propagate, trace
        except ImportError as err:
            raise MissingExtraError('traces need opentelemetry-api: pip install "nimbed[otel]"') from err
        self._trace, self._propagate = trace, propagate
        self._tracer = trace.get_tracer("nimbed", __version__)

    def start(self, exchange: Exchange) -> Any:  # noqa: ANN401
        """A span, or None."""
        if self._trace is None:
            return None
        carrier = {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in exchange.headers.items()
            if name in {b"traceparent", b"tracestate", b"baggage"}
        }
        return self._tracer.start_span(
            f"{exchange.method} {exchange.path}",
            self._propagate.extract(carrier),
            kind=self._trace.SpanKind.SERVER,
            attributes={"http.request.method": exchange.method, "http.route": exchange.path},
        )

    def end(self, span: Any, exchange: Exchange) -> None:  # noqa: ANN401
        """End it, with what became of the request; no text is among its attributes."""
        if span is None:
            return
        work = exchange.work
        span.set_attributes(
            {
                "http.response.status_code": exchange.status,
                "nimbed.request.id": exchange.id.decode(),
                "nimbed.model": work.model,
                "nimbed.texts": work.texts,
                "nimbed.tokens": work.tokens,
                "nimbed.truncated_texts": work.truncated,
            }
        )
        if exchange.status >= 500:
            span.set_status(self._trace.StatusCode.ERROR)
        span.end()
