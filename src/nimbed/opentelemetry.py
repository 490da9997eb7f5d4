"""OpenTelemetry metrics and spans of :class:`nimbed.Encoder`, through the API alone: your program brings the SDK."""

from __future__ import annotations

import logging
import threading
import time
import weakref
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from nimbed import __version__
from nimbed.errors import InputError, MissingExtraError

try:
    from opentelemetry import metrics, trace
    from opentelemetry.context import Context
    from opentelemetry.metrics import Observation
except ImportError as err:
    raise MissingExtraError('nimbed.opentelemetry needs opentelemetry-api: pip install "nimbed[otel]"') from err

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from opentelemetry.metrics import CallbackOptions, Histogram, Meter, MeterProvider
    from opentelemetry.trace import Tracer, TracerProvider

    from nimbed import Encoder
    from nimbed._types import BatchRecord
    from nimbed.encoder import EncoderStats

__all__ = ["instrument"]

logger = logging.getLogger("nimbed")

# Seconds; the defaults of OpenTelemetry are meant for milliseconds.
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class _Series(NamedTuple):
    """A metric of each encoder; ``path`` says where its number is in the stats."""

    kind: Literal["counter", "gauge", "up_down_counter"]
    name: str
    path: str
    unit: str
    description: str


_SERIES = (
    _Series("counter", "nimbed.texts", "texts", "{text}", "Texts asked for, also those that the cache had."),
    _Series("counter", "nimbed.tokens", "tokens", "{token}", "Tokens computed, without padding."),
    _Series("counter", "nimbed.padded_tokens", "padded_tokens", "{token}", "Tokens computed, padding included."),
    _Series("counter", "nimbed.batches", "batches", "{batch}", "Batches that the engine ran."),
    _Series("counter", "nimbed.truncated_texts", "truncated", "{text}", "Texts that lost tokens."),
    _Series("up_down_counter", "nimbed.queue.depth", "queue_depth", "{sequence}", "Sequences that wait."),
    _Series("counter", "nimbed.cache.hits", "cache.hits", "{text}", "Texts whose vector was in the cache."),
    _Series("counter", "nimbed.cache.misses", "cache.misses", "{text}", "Texts computed, or fetched from the tier."),
    _Series("counter", "nimbed.cache.joined", "cache.joined", "{text}", "Texts that were being computed already."),
    _Series("counter", "nimbed.cache.evictions", "cache.evictions", "{entry}", "Entries that made room for others."),
    _Series("up_down_counter", "nimbed.cache.entries", "cache.entries", "{entry}", "Entries held."),
    _Series("up_down_counter", "nimbed.cache.size", "cache.bytes", "By", "Memory that the entries take."),
    _Series("up_down_counter", "nimbed.cache.limit", "cache.limit_bytes", "By", "Memory that they may take."),
    _Series("counter", "nimbed.tier.hits", "cache.tier.hits", "{entry}", "Entries found in the shared tier."),
    _Series("counter", "nimbed.tier.misses", "cache.tier.misses", "{entry}", "Entries that the tier did not give."),
    _Series("counter", "nimbed.tier.written", "cache.tier.written", "{entry}", "Entries stored in the tier."),
    _Series("counter", "nimbed.tier.dropped", "cache.tier.dropped", "{entry}", "Entries that the tier did not take."),
    _Series("counter", "nimbed.tier.damaged", "cache.tier.damaged", "{entry}", "Damaged entries; computed anew."),
    _Series("counter", "nimbed.tier.failures", "cache.tier.failures", "{operation}", "Failed after their retries."),
    _Series("gauge", "nimbed.tier.up", "cache.tier.state", "1", "1 where the tier answers, 0 where it is down or off."),
)


def instrument(
    encoder: Encoder,
    *,
    name: str = "default",
    meter_provider: MeterProvider | None = None,
    tracer_provider: TracerProvider | None = None,
) -> Callable[[], None]:
    """Report what an encoder does, as metrics and spans.

    Metrics are read from ``encoder.stats()`` when they are collected. Each batch is a span ``nimbed.batch``, a trace of
    its own because it holds the texts of many callers, and a value of the histogram ``nimbed.batch.duration``, in
    seconds. Spans end on the engine's thread, before the callers get their vectors: use a ``BatchSpanProcessor``, so
    that no export happens there.

    Only the function that is returned keeps the encoder alive. A closed encoder keeps its metrics, except those of its
    cache, which is gone.

    Args:
        encoder: the encoder to report on.
        name: the value of the attribute ``nimbed.encoder``.
        meter_provider: the provider of the metrics; None takes the program's.
        tracer_provider: the provider of the spans; None takes the program's.

    Returns:
        A function that ends the reporting; called again, it does nothing.

    Raises:
        InputError: another encoder reports to this meter provider by the same name.

    Example:
        >>> from nimbed import Encoder
        >>> from opentelemetry.sdk.metrics import MeterProvider
        >>> from opentelemetry.sdk.metrics.export import InMemoryMetricReader
        >>> encoder, reader = Encoder("any-name", backend="fake"), InMemoryMetricReader()
        >>> undo = instrument(encoder, name="search", meter_provider=MeterProvider([reader]))
        >>> vectors = encoder.encode(["The cat sat.", "A cat was sitting."])
        >>> found = reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics
        >>> next(metric.data.data_points[0].value for metric in found if metric.name == "nimbed.texts")
        2
        >>> undo()
    """
    observed = _observed_by(meter_provider)
    tracer = trace.get_tracer("nimbed", __version__, tracer_provider)
    undo = ExitStack()  # closed a second time it does nothing
    undo.callback(observed.add(encoder, name))
    undo.callback(encoder.on_batch(partial(_report, name, tracer, observed.duration)))
    return undo.close


class _Observed:
    """The encoders that report to one meter provider."""

    def __init__(self, meter: Meter) -> None:
        self._encoders: dict[str, weakref.ref[Encoder]] = {}
        self._lock = threading.Lock()
        self.duration = meter.create_histogram(
            "nimbed.batch.duration",
            unit="s",
            description="Time that the engine took for a batch.",
            explicit_bucket_boundaries_advisory=_BUCKETS,
        )
        for one in _SERIES:
            create = getattr(meter, f"create_observable_{one.kind}")
            callback = partial(self._numbers, one.path)
            create(one.name, callbacks=[callback], unit=one.unit, description=one.description)
        meter.create_observable_gauge(
            "nimbed.latency",
            callbacks=[self._latencies],
            unit="s",
            description="From call to vectors, of the latest calls.",
        )

    def add(self, encoder: Encoder, name: str) -> Callable[[], object]:
        """Observe one more encoder; the function returned removes it."""
        with self._lock:
            if name in self._encoders and self._encoders[name]() is not None:
                raise InputError(f"name={name!r} is in use here; give each encoder a name of its own")
            self._encoders[name] = weakref.ref(encoder)
        return partial(self._encoders.pop, name)

    def _stats(self) -> Iterator[tuple[str, EncoderStats]]:
        for name, entry in tuple(self._encoders.items()):
            if (encoder := entry()) is not None:
                yield name, encoder.stats()

    def _numbers(self, path: str, _options: CallbackOptions) -> Iterator[Observation]:
        for name, stats in self._stats():
            if (number := _number(stats, path)) is not None:
                yield Observation(number, {"nimbed.encoder": name})

    def _latencies(self, _options: CallbackOptions) -> Iterator[Observation]:
        for name, stats in self._stats():
            for role, latency in stats.latency_ms.items():
                for quantile, ms in (("0.5", latency.p50), ("0.99", latency.p99)):
                    labels = {"nimbed.encoder": name, "nimbed.role": role, "nimbed.quantile": quantile}
                    yield Observation(ms / 1000, labels)


class _Program:
    """Stands for the provider that the program sets, before and after it is set."""


_PROGRAM = _Program()
_all_observed: weakref.WeakKeyDictionary[object, _Observed] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def _observed_by(provider: MeterProvider | None) -> _Observed:
    """The one of this provider: if an instrument is made twice, SDKs silently drop the second one's callbacks."""
    programs = metrics.get_meter_provider()
    provider = programs if provider is None else provider
    with _lock:
        found = _all_observed.get(provider)
        if found is None and provider is programs:
            found = _all_observed.get(_PROGRAM)
        if found is None:
            found = _Observed(provider.get_meter("nimbed", __version__))
            _all_observed[_PROGRAM if provider is programs else provider] = found
    return found


def _report(name: str, tracer: Tracer, duration: Histogram, record: BatchRecord) -> None:
    end_ns = time.time_ns()
    labels = {"nimbed.encoder": name, "nimbed.role": record.role}
    counts = {f"nimbed.batch.{field}": getattr(record, field) for field in ("rows", "tokens", "padded_tokens")}
    try:
        duration.record(record.seconds, labels)
        tracer.start_span(
            "nimbed.batch",
            Context(),  # a thread may inherit the context, and with it the span, that it was started in
            attributes={**labels, **counts},
            start_time=end_ns - round(record.seconds * 1e9),
        ).end(end_ns)
    except Exception:  # the engine's thread would end, and with it all embedding
        logger.exception("a batch could not be reported to OpenTelemetry")


def _number(stats: EncoderStats, path: str) -> int | None:
    """The number at a path of attributes, or None if there is no cache or no tier."""
    value: Any = stats
    for field in path.split("."):
        if value is None:
            return None
        value = getattr(value, field)
    return int(value == "up") if path.endswith(".state") else int(value)
