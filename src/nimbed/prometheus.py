"""Prometheus metrics of :class:`nimbed.Encoder`, read from its ``stats()`` when they are scraped."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

from nimbed.errors import InputError, MissingExtraError

try:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
    from prometheus_client.registry import Collector
except ImportError as err:
    raise MissingExtraError('nimbed.prometheus needs prometheus-client: pip install "nimbed[prometheus]"') from err

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nimbed import Encoder
    from nimbed.encoder import EncoderStats

__all__ = ["EncoderCollector"]

_LATENCY = "nimbed_latency_seconds"


class _Series(NamedTuple):
    """A metric of each encoder; ``path`` says where its number is in the stats."""

    name: str
    path: str
    help: str
    unit: str = ""


_COUNTERS = (
    _Series("nimbed_texts", "texts", "Texts asked for, also those that the cache had."),
    _Series("nimbed_tokens", "tokens", "Tokens computed, without padding."),
    _Series("nimbed_padded_tokens", "padded_tokens", "Tokens computed, padding included."),
    _Series("nimbed_batches", "batches", "Batches that the engine ran."),
    _Series("nimbed_truncated_texts", "truncated", "Texts that lost tokens."),
    _Series("nimbed_cache_hits", "cache.hits", "Texts whose vector was in the cache."),
    _Series("nimbed_cache_misses", "cache.misses", "Texts that were computed, or fetched from the shared tier."),
    _Series("nimbed_cache_joined", "cache.joined", "Texts that were being computed already."),
    _Series("nimbed_cache_evictions", "cache.evictions", "Cache entries that made room for others."),
    _Series("nimbed_tier_hits", "cache.tier.hits", "Entries found in the shared tier."),
    _Series("nimbed_tier_misses", "cache.tier.misses", "Entries that the shared tier did not give."),
    _Series("nimbed_tier_written", "cache.tier.written", "Entries stored in the shared tier."),
    _Series("nimbed_tier_dropped", "cache.tier.dropped", "Entries that the shared tier did not take."),
    _Series("nimbed_tier_damaged", "cache.tier.damaged", "Damaged entries in the shared tier; computed anew."),
    _Series("nimbed_tier_failures", "cache.tier.failures", "Operations that failed after their retries."),
)
_GAUGES = (
    _Series("nimbed_queue_depth", "queue_depth", "Sequences that wait for the engine."),
    _Series("nimbed_cache_entries", "cache.entries", "Entries that the cache holds."),
    _Series("nimbed_cache_bytes", "cache.bytes", "Memory that the cache's entries take.", "bytes"),
    _Series("nimbed_cache_limit_bytes", "cache.limit_bytes", "Memory that they may take.", "bytes"),
    _Series("nimbed_tier_up", "cache.tier.state", "1 where the shared tier answers, 0 where it is down or off."),
)


class EncoderCollector(Collector):
    """The counts of one encoder or several, under the label ``encoder``.

    Nothing extra is counted or kept: the encoder's stats are read when Prometheus scrapes. The encoder is held by a
    weak reference, and its series end when it is garbage-collected. A closed encoder keeps its series, except those of
    its cache, which is gone.

    A registry takes one collector; give further encoders to :meth:`add`.

    Args:
        encoder: the encoder to read.
        name: the value of the label ``encoder``.

    Example:
        >>> from nimbed import Encoder
        >>> from prometheus_client import CollectorRegistry
        >>> encoder, registry = Encoder("any-name", backend="fake"), CollectorRegistry()
        >>> registry.register(EncoderCollector(encoder, name="search"))
        >>> vectors = encoder.encode(["The cat sat.", "A cat was sitting."])
        >>> registry.get_sample_value("nimbed_texts_total", {"encoder": "search"})
        2.0
    """

    def __init__(self, encoder: Encoder, *, name: str = "default") -> None:
        self._encoders: dict[str, weakref.ref[Encoder]] = {}
        self.add(encoder, name=name)

    def add(self, encoder: Encoder, *, name: str) -> None:
        """Read this encoder too.

        Raises:
            InputError: another encoder has this name.
        """
        if name in self._encoders and self._encoders[name]() is not None:
            raise InputError(f"name={name!r} is another encoder's; give each encoder a name of its own")
        self._encoders[name] = weakref.ref(encoder)

    def describe(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """All possible families, without samples. A registry uses their names to refuse a second collector."""
        for one in _COUNTERS:
            yield CounterMetricFamily(one.name, one.help, labels=["encoder"])
        for one in _GAUGES:
            yield GaugeMetricFamily(one.name, one.help, labels=["encoder"], unit=one.unit)
        yield GaugeMetricFamily(
            _LATENCY,
            "From call to vectors, of the latest calls.",
            labels=["encoder", "role", "quantile"],
            unit="seconds",
        )

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """What the encoders have counted so far, without the families that have no samples."""
        alive = [(name, encoder) for name, ref in tuple(self._encoders.items()) if (encoder := ref()) is not None]
        stats = {name: encoder.stats() for name, encoder in alive}
        *families, latency = self.describe()
        for family, one in zip(families, (*_COUNTERS, *_GAUGES), strict=True):
            for name, counted in stats.items():
                if (number := _number(counted, one.path)) is not None:
                    family.add_metric([name], number)
        for name, counted in stats.items():
            for role, measured in counted.latency_ms.items():
                latency.add_metric([name, role, "0.5"], measured.p50 / 1000)
                latency.add_metric([name, role, "0.99"], measured.p99 / 1000)
        yield from (family for family in (*families, latency) if family.samples)


def _number(stats: EncoderStats, path: str) -> float | None:
    """The number at a path of attributes, or None if there is no cache or no tier."""
    value: Any = stats
    for field in path.split("."):
        if value is None:
            return None
        value = getattr(value, field)
    return float(value == "up") if path.endswith(".state") else float(value)
