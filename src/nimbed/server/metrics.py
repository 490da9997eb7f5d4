"""What the server counts, and how Prometheus sees it: TEI's names beside nimbed's own."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter
from typing import TYPE_CHECKING, Any, cast

from nimbed.server.models import Embedder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nimbed import Encoder
    from nimbed._types import BatchRecord
    from nimbed.server.catalog import Catalog
    from nimbed.server.exchange import Exchange

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_SIZES = tuple(float(2**n) for n in range(13))
_TOKENS = tuple(float(2**n) for n in range(4, 18))
# Methods that are counted by their name; a client may invent others.
_METHODS = {"GET", "HEAD", "OPTIONS", "POST"}
_FAILURES = {408: "timeout", 413: "validation", 422: "validation", 424: "model_type", 429: "overloaded", 503: "timeout"}


class Histogram:
    """Counts by buckets, and the sum."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds, self._counts, self._sum = bounds, [0] * (len(bounds) + 1), 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def shown(self) -> tuple[list[tuple[str, float]], float]:
        """Prometheus's cumulative buckets, and the sum."""
        total, buckets = 0, []
        for bound, count in zip((*map(str, self._bounds), "+Inf"), self._counts, strict=True):
            total += count
            buckets.append((bound, float(total)))
        return buckets, self._sum


class Metrics:
    """Counts of requests (on the event loop) and of batches (on the engines' threads).

    Args:
        catalog: whose models' own counts are shown too.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._requests: Counter[tuple[str, str, int]] = Counter()
        self._texts: Counter[str] = Counter()
        self._failures: Counter[str] = Counter()
        self._by_size: Counter[tuple[str, bool]] = Counter()
        self._seconds: dict[str, Histogram] = {}
        self._post_seconds = Histogram(_SECONDS)
        self._lock = threading.Lock()
        self._batch_seconds, self._batch_rows = Histogram(_SECONDS), Histogram(_SIZES)
        self._batch_tokens = Histogram(_TOKENS)
        for named in catalog.models:
            named.model.on_batch(self._batch)

    def count(self, exchange: Exchange) -> None:
        """A request has ended."""
        path, status, work = exchange.path, exchange.status, exchange.work
        method = exchange.method if exchange.method in _METHODS else "-"
        self._requests[path, method, status] += 1
        if (seconds := self._seconds.get(path)) is None:
            seconds = self._seconds[path] = Histogram(_SECONDS)
        seconds.add(exchange.seconds)
        if method != "POST":
            return
        self._post_seconds.add(exchange.seconds)
        size = "batch" if work.batch else "single"
        self._by_size[size, status < 400] += 1
        if status >= 400:
            self._failures[_FAILURES.get(status, "validation" if status < 500 else "internal")] += 1
        else:
            self._texts[work.model] += work.texts

    def render(self, in_flight: int) -> bytes | None:
        """The text that is scraped; None where prometheus-client is not installed."""
        try:
            from prometheus_client import CollectorRegistry, generate_latest
        except ImportError:
            return None
        from nimbed.prometheus import EncoderCollector

        registry = CollectorRegistry()
        registry.register(cast("Any", _Collected(self, in_flight)))
        own: EncoderCollector | None = None
        for named in self._catalog.models:
            encoder = cast("Encoder", named.model)  # what a scorer has of an encoder is what the collector reads
            if own is None:
                registry.register(own := EncoderCollector(encoder, name=named.id))
            else:
                own.add(encoder, name=named.id)
        return generate_latest(registry)

    def families(self, in_flight: int) -> Iterator[Any]:
        """All of the server's own."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        labels = ["route", "method", "status"]
        requests = CounterMetricFamily("nimbed_http_requests", "Requests that have ended.", labels=labels)
        for (path, method, status), count in sorted(self._requests.items()):
            requests.add_metric([path, method, str(status)], count)
        yield requests
        seconds = HistogramMetricFamily("nimbed_http_request_seconds", "From request to response.", labels=["route"])
        for path, one in sorted(self._seconds.items()):
            seconds.add_metric([path], *one.shown())
        yield seconds
        yield GaugeMetricFamily("nimbed_http_requests_in_flight", "Requests being answered, or waiting.", in_flight)
        yield from self._as_tei(in_flight)

    def _as_tei(self, in_flight: int) -> Iterator[Any]:
        from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily

        counted = {size: [self._by_size[size, False], self._by_size[size, True]] for size in ("single", "batch")}
        yield _untyped("te_request_count", {(("method", size),): sum(both) for size, both in counted.items()})
        yield _untyped("te_request_success", {(("method", size),): both[1] for size, both in counted.items()})
        yield _untyped("te_request_failure", {(("err", kind),): count for kind, count in self._failures.items()})
        kinds = {named.id: isinstance(named.model, Embedder) for named in self._catalog.models}
        for name, embeds in (("te_embed", True), ("te_predict", False)):
            total = sum(count for model, count in self._texts.items() if kinds.get(model) is embeds)
            yield _untyped(f"{name}_count", {(): total})
            yield _untyped(f"{name}_success", {(): total})
        with self._lock:
            shown = {
                "te_request_duration": self._post_seconds.shown(),
                "te_request_inference_duration": self._batch_seconds.shown(),
                "te_batch_next_size": self._batch_rows.shown(),
                "te_batch_next_tokens": self._batch_tokens.shown(),
            }
        for name, (buckets, added) in shown.items():
            yield HistogramMetricFamily(name, "As Text Embeddings Inference has it.", buckets, added)
        yield GaugeMetricFamily("te_queue_size", "As Text Embeddings Inference has it.", in_flight)

    def _batch(self, record: BatchRecord) -> None:
        with self._lock:
            self._batch_seconds.add(record.seconds)
            self._batch_rows.add(record.rows)
            self._batch_tokens.add(record.tokens)


class _Collected:
    """As a registry wants it."""

    def __init__(self, metrics: Metrics, in_flight: int) -> None:
        self._metrics, self._in_flight = metrics, in_flight

    def collect(self) -> Iterator[Any]:
        return self._metrics.families(self._in_flight)


def _untyped(name: str, samples: dict[tuple[tuple[str, str], ...], int]) -> Any:  # noqa: ANN401
    """TEI's counters, whose names do not end in ``_total`` as a counter's here would."""
    from prometheus_client.core import Metric

    family = Metric(name, "As Text Embeddings Inference has it.", "unknown")
    for labels, value in samples.items():
        family.add_sample(name, dict(labels), value)
    return family
