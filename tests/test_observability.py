"""What Prometheus and OpenTelemetry are told of an encoder, read with their own libraries."""

from __future__ import annotations

import doctest
import gc
import importlib
import subprocess
import sys
import weakref

import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics import exposition, parser
from prometheus_client.parser import text_string_to_metric_families

from nimbed import CacheConfig, Encoder
from nimbed._cache.lru import CacheStats, TierStats
from nimbed._loading.settings import EncoderStats, Latency
from nimbed._types import BatchRecord
from nimbed.errors import InputError, MissingExtraError
from nimbed.opentelemetry import instrument
from nimbed.prometheus import EncoderCollector
from tests.test_imports import loaded_after

TIER = TierStats(name="redis", state="up", hits=51, misses=52, written=53, dropped=54, damaged=55, failures=56)
CACHE = CacheStats(hits=31, misses=32, joined=33, evictions=34, entries=35, bytes=36, limit_bytes=37, tier=TIER)
# No two numbers are equal: none can stand in another's place.
STATS = EncoderStats(
    texts=11, tokens=12, padded_tokens=13, batches=14, truncated=15, queue_depth=16,
    latency_ms={"query": Latency(p50=2.0, p99=40.0)}, cache=CACHE,
)  # fmt: skip
RECORD = BatchRecord(role="document", rows=3, tokens=20, padded_tokens=24, seconds=0.25)


@pytest.fixture
def encoder():
    with Encoder("any-name", backend="fake") as encoder:
        yield encoder


@pytest.fixture
def registry():
    return CollectorRegistry()


class TestPrometheus:
    def test_every_number_has_its_series(self, encoder, registry, monkeypatch):
        monkeypatch.setattr(encoder, "stats", lambda: STATS)
        registry.register(EncoderCollector(encoder, name="search"))
        said = [line for line in generate_latest(registry).decode().splitlines() if not line.startswith("#")]
        assert said == [
            'nimbed_texts_total{encoder="search"} 11.0',
            'nimbed_tokens_total{encoder="search"} 12.0',
            'nimbed_padded_tokens_total{encoder="search"} 13.0',
            'nimbed_batches_total{encoder="search"} 14.0',
            'nimbed_truncated_texts_total{encoder="search"} 15.0',
            'nimbed_cache_hits_total{encoder="search"} 31.0',
            'nimbed_cache_misses_total{encoder="search"} 32.0',
            'nimbed_cache_joined_total{encoder="search"} 33.0',
            'nimbed_cache_evictions_total{encoder="search"} 34.0',
            'nimbed_tier_hits_total{encoder="search"} 51.0',
            'nimbed_tier_misses_total{encoder="search"} 52.0',
            'nimbed_tier_written_total{encoder="search"} 53.0',
            'nimbed_tier_dropped_total{encoder="search"} 54.0',
            'nimbed_tier_damaged_total{encoder="search"} 55.0',
            'nimbed_tier_failures_total{encoder="search"} 56.0',
            'nimbed_queue_depth{encoder="search"} 16.0',
            'nimbed_cache_entries{encoder="search"} 35.0',
            'nimbed_cache_bytes{encoder="search"} 36.0',
            'nimbed_cache_limit_bytes{encoder="search"} 37.0',
            'nimbed_tier_up{encoder="search"} 1.0',
            'nimbed_latency_seconds{encoder="search",quantile="0.5",role="query"} 0.002',
            'nimbed_latency_seconds{encoder="search",quantile="0.99",role="query"} 0.04',
        ]

    def test_both_text_formats_can_be_read(self, encoder, registry, monkeypatch):
        monkeypatch.setattr(encoder, "stats", lambda: STATS)
        registry.register(EncoderCollector(encoder))
        plain = list(text_string_to_metric_families(generate_latest(registry).decode()))
        kinds = {family.name: family.type for family in plain}
        assert (kinds["nimbed_tokens"], kinds["nimbed_cache_bytes"]) == ("counter", "gauge")
        assert all(family.documentation for family in plain)
        strict = parser.text_string_to_metric_families(exposition.generate_latest(registry).decode())
        units = {family.name: family.unit for family in strict if family.unit}
        assert units == dict.fromkeys(("nimbed_cache_bytes", "nimbed_cache_limit_bytes"), "bytes") | {
            "nimbed_latency_seconds": "seconds"
        }

    def test_real_counts_at_each_scrape(self, encoder, registry):
        registry.register(EncoderCollector(encoder))
        assert registry.get_sample_value("nimbed_texts_total", {"encoder": "default"}) == 0
        assert registry.get_sample_value("nimbed_tier_up", {"encoder": "default"}) is None
        encoder.encode(["a", "bc"])
        encoder.encode(["a"])
        value = {family.name: family.samples[0].value for family in registry.collect()}
        assert (value["nimbed_texts"], value["nimbed_tokens"], value["nimbed_batches"]) == (3, 3 + 4, 1)
        assert (value["nimbed_cache_hits"], value["nimbed_cache_misses"]) == (1, 2)
        assert value["nimbed_latency_seconds"] > 0

    @pytest.mark.parametrize(("state", "up"), [("up", 1), ("down", 0), ("off: no credentials", 0)])
    def test_tier_that_is_not_up(self, encoder, registry, monkeypatch, state, up):
        stats = EncoderStats(cache=CacheStats(tier=TierStats(state=state)))
        monkeypatch.setattr(encoder, "stats", lambda: stats)
        registry.register(EncoderCollector(encoder))
        assert registry.get_sample_value("nimbed_tier_up", {"encoder": "default"}) == up

    def test_real_tier(self, registry, tmp_path):
        cache = CacheConfig(url=f"sqlite:///{tmp_path / 'vectors'}", timeout_s=20)
        with Encoder("any-name", backend="fake", cache=cache) as encoder:
            registry.register(EncoderCollector(encoder))
            encoder.encode(["a", "b"])
            assert registry.get_sample_value("nimbed_tier_misses_total", {"encoder": "default"}) == 2
            assert registry.get_sample_value("nimbed_tier_up", {"encoder": "default"}) == 1

    def test_closed_encoder_keeps_its_counts(self, encoder, registry):
        registry.register(EncoderCollector(encoder))
        encoder.encode(["a", "b"])
        encoder.close()
        assert registry.get_sample_value("nimbed_texts_total", {"encoder": "default"}) == 2
        assert registry.get_sample_value("nimbed_batches_total", {"encoder": "default"}) == 1
        assert b"nimbed_cache" not in generate_latest(registry)

    def test_encoder_is_not_kept_alive(self, registry):
        encoder = Encoder("any-name", backend="fake")
        collector, alive = EncoderCollector(encoder), weakref.ref(encoder)
        registry.register(collector)
        assert b"nimbed_texts_total" in generate_latest(registry)
        del encoder
        gc.collect()
        assert alive() is None
        assert generate_latest(registry) == b""
        with Encoder("any-name", backend="fake") as other:
            collector.add(other, name="default")
            assert registry.get_sample_value("nimbed_texts_total", {"encoder": "default"}) == 0

    def test_several_encoders(self, encoder, registry):
        collector = EncoderCollector(encoder, name="one")
        registry.register(collector)
        with Encoder("any-name", backend="fake") as other:
            with pytest.raises(ValueError, match="Duplicated"):
                registry.register(EncoderCollector(other, name="two"))
            with pytest.raises(InputError, match="'one'"):
                collector.add(other, name="one")
            collector.add(other, name="two")
            encoder.encode(["a"])
            other.encode(["a", "b"])
            assert registry.get_sample_value("nimbed_texts_total", {"encoder": "one"}) == 1
            assert registry.get_sample_value("nimbed_texts_total", {"encoder": "two"}) == 2
            assert generate_latest(registry).count(b"# TYPE nimbed_texts_total") == 1

    def test_unregistering_ends_it(self, encoder, registry):
        collector = EncoderCollector(encoder)
        registry.register(collector)
        registry.unregister(collector)
        assert generate_latest(registry) == b""


class Telemetry:
    """An SDK that keeps what it is told."""

    def __init__(self):
        self.reader, self.exporter = InMemoryMetricReader(), InMemorySpanExporter()
        self.meters, self.tracers = MeterProvider([self.reader]), TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))

    def instrument(self, encoder, **options):
        return instrument(encoder, meter_provider=self.meters, tracer_provider=self.tracers, **options)

    @property
    def metrics(self):
        data = self.reader.get_metrics_data()
        scopes = [scope for resource in data.resource_metrics for scope in resource.scope_metrics] if data else []
        return {metric.name: metric for scope in scopes for metric in scope.metrics}

    def points(self, name):
        metric = self.metrics.get(name)
        return {} if metric is None else {p.attributes["nimbed.encoder"]: p for p in metric.data.data_points}

    def value(self, name, encoder="default"):
        return self.points(name)[encoder].value


@pytest.fixture
def telemetry():
    telemetry = Telemetry()
    yield telemetry
    telemetry.meters.shutdown()
    telemetry.tracers.shutdown()


class TestOpenTelemetry:
    def test_every_number_has_its_metric(self, encoder, telemetry, monkeypatch):
        monkeypatch.setattr(encoder, "stats", lambda: STATS)
        telemetry.instrument(encoder, name="search")
        metrics = telemetry.metrics
        latency = metrics.pop("nimbed.latency")
        # Whether it is a sum that only grows; None for a gauge.
        assert {
            name: (m.data.data_points[0].value, m.unit, getattr(m.data, "is_monotonic", None))
            for name, m in metrics.items()
        } == {
            "nimbed.texts": (11, "{text}", True),
            "nimbed.tokens": (12, "{token}", True),
            "nimbed.padded_tokens": (13, "{token}", True),
            "nimbed.batches": (14, "{batch}", True),
            "nimbed.truncated_texts": (15, "{text}", True),
            "nimbed.queue.depth": (16, "{sequence}", False),
            "nimbed.cache.hits": (31, "{text}", True),
            "nimbed.cache.misses": (32, "{text}", True),
            "nimbed.cache.joined": (33, "{text}", True),
            "nimbed.cache.evictions": (34, "{entry}", True),
            "nimbed.cache.entries": (35, "{entry}", False),
            "nimbed.cache.size": (36, "By", False),
            "nimbed.cache.limit": (37, "By", False),
            "nimbed.tier.hits": (51, "{entry}", True),
            "nimbed.tier.misses": (52, "{entry}", True),
            "nimbed.tier.written": (53, "{entry}", True),
            "nimbed.tier.dropped": (54, "{entry}", True),
            "nimbed.tier.damaged": (55, "{entry}", True),
            "nimbed.tier.failures": (56, "{operation}", True),
            "nimbed.tier.up": (1, "1", None),
        }
        assert all(dict(m.data.data_points[0].attributes) == {"nimbed.encoder": "search"} for m in metrics.values())
        assert latency.unit == "s"
        assert {p.attributes["nimbed.quantile"]: p.value for p in latency.data.data_points} == {
            "0.5": 0.002,
            "0.99": 0.04,
        }
        assert {p.attributes["nimbed.role"] for p in latency.data.data_points} == {"query"}

    @pytest.mark.parametrize(("state", "up"), [("up", 1), ("down", 0), ("off: no credentials", 0)])
    def test_tier_that_is_not_up(self, encoder, telemetry, monkeypatch, state, up):
        stats = EncoderStats(cache=CacheStats(tier=TierStats(state=state)))
        monkeypatch.setattr(encoder, "stats", lambda: stats)
        telemetry.instrument(encoder)
        assert telemetry.value("nimbed.tier.up") == up

    def test_real_batches(self, encoder, telemetry):
        telemetry.instrument(encoder)
        encoder.encode(["a", "bc"])
        (span,) = telemetry.exporter.get_finished_spans()
        assert dict(span.attributes) == {
            "nimbed.encoder": "default",
            "nimbed.role": "document",
            "nimbed.batch.rows": 2,
            "nimbed.batch.tokens": 7,
            "nimbed.batch.padded_tokens": 8,
        }
        assert telemetry.value("nimbed.tokens") == 7
        assert telemetry.points("nimbed.batch.duration")["default"].count == 1
        assert "nimbed.tier.up" not in telemetry.metrics

    def test_batch_has_its_time(self, encoder, telemetry):
        telemetry.instrument(encoder)
        encoder._meter.batch(RECORD)
        (span,) = telemetry.exporter.get_finished_spans()
        assert span.name == "nimbed.batch"
        assert span.end_time - span.start_time == 250_000_000
        metric = telemetry.metrics["nimbed.batch.duration"]
        (point,) = metric.data.data_points
        assert (metric.unit, point.sum, point.attributes["nimbed.role"]) == ("s", 0.25, "document")
        # The default boundaries would put all batches of less than 5 s into one.
        assert 0.001 in point.explicit_bounds
        assert 10.0 in point.explicit_bounds

    def test_batch_is_a_trace_of_its_own(self, encoder, telemetry):
        telemetry.instrument(encoder)
        with telemetry.tracers.get_tracer("program").start_as_current_span("startup") as startup:
            encoder._meter.batch(RECORD)
            assert trace.get_current_span() is startup
        batch, _ = telemetry.exporter.get_finished_spans()
        assert batch.parent is None
        assert batch.context.trace_id != startup.context.trace_id

    def test_undo_stops_it(self, encoder, telemetry):
        undo = telemetry.instrument(encoder)
        encoder.encode(["a"])
        assert telemetry.value("nimbed.texts") == 1
        undo()
        undo()
        assert not encoder._meter.hooks
        encoder.encode(["b"])
        assert len(telemetry.exporter.get_finished_spans()) == 1
        assert not telemetry.points("nimbed.texts")
        assert not telemetry.points("nimbed.latency")
        again = telemetry.instrument(encoder)
        undo()
        encoder.encode(["c"])
        assert telemetry.value("nimbed.texts") == 3
        assert len(telemetry.exporter.get_finished_spans()) == 2
        again()

    def test_several_encoders_and_providers(self, encoder, telemetry):
        elsewhere = Telemetry()
        telemetry.instrument(encoder, name="one")
        elsewhere.instrument(encoder, name="three")
        with Encoder("any-name", backend="fake") as other:
            with pytest.raises(InputError, match="'one'"):
                telemetry.instrument(other, name="one")
            assert not other._meter.hooks
            telemetry.instrument(other, name="two")
            encoder.encode(["a"])
            other.encode(["a", "b"])
            assert {name: p.value for name, p in telemetry.points("nimbed.texts").items()} == {"one": 1, "two": 2}
            assert {name: p.value for name, p in elsewhere.points("nimbed.texts").items()} == {"three": 1}
        elsewhere.meters.shutdown()
        elsewhere.tracers.shutdown()

    def test_closed_encoder_keeps_its_counts(self, encoder, telemetry):
        telemetry.instrument(encoder)
        encoder.encode(["a", "b"])
        encoder.close()
        assert telemetry.value("nimbed.texts") == 2
        assert telemetry.points("nimbed.batch.duration")["default"].count == 1
        assert "nimbed.cache.hits" not in telemetry.metrics

    def test_encoder_is_not_kept_alive(self, telemetry):
        encoder = Encoder("any-name", backend="fake")
        alive = weakref.ref(encoder)
        telemetry.instrument(encoder)
        assert telemetry.value("nimbed.texts") == 0
        del encoder
        gc.collect()
        assert alive() is None
        assert not telemetry.points("nimbed.texts")
        with Encoder("any-name", backend="fake") as other:
            telemetry.instrument(other)
            assert telemetry.value("nimbed.texts") == 0

    def test_failing_sdk_does_not_stop_the_encoder(self, encoder, telemetry, caplog):
        class Failing(SpanProcessor):
            def on_end(self, span):
                raise OSError("no space left")

        telemetry.tracers.add_span_processor(Failing())
        telemetry.instrument(encoder)
        encoder.encode(["a"], timeout_s=20)
        encoder.encode(["b"], timeout_s=20)
        assert [record.name for record in caplog.records] == ["nimbed", "nimbed"]
        assert "no space left" in caplog.text

    def test_without_sdk_nothing_happens(self, encoder):
        undo = instrument(encoder)
        encoder.encode(["a"])
        undo()
        assert not encoder._meter.hooks

    def test_programs_provider_may_be_set_later(self):
        script = """
from nimbed import Encoder
from nimbed.opentelemetry import instrument
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

encoders = [Encoder("any-name", backend="fake") for _ in range(4)]
instrument(encoders[0], name="before")
instrument(encoders[1], name="before too")
reader = InMemoryMetricReader()
provider = MeterProvider([reader])
metrics.set_meter_provider(provider)
instrument(encoders[2], name="after")
instrument(encoders[3], name="by hand", meter_provider=provider)
(resource,) = reader.get_metrics_data().resource_metrics
(scope,) = resource.scope_metrics
(texts,) = [metric for metric in scope.metrics if metric.name == "nimbed.texts"]
print(*sorted(point.attributes["nimbed.encoder"] for point in texts.data.data_points), sep=", ")
"""
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        assert (done.stdout, done.stderr) == ("after, before, before too, by hand\n", "")


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [
        ("nimbed.prometheus", "prometheus_client.core", "prometheus"),
        ("nimbed.opentelemetry", "opentelemetry.metrics", "otel"),
    ],
)
def test_missing_package_is_named_with_its_remedy(monkeypatch, name, package, extra):
    monkeypatch.setitem(sys.modules, package, None)
    if package == "opentelemetry.metrics":
        monkeypatch.delattr("opentelemetry.metrics")
    monkeypatch.delitem(sys.modules, name)
    with pytest.raises(MissingExtraError, match=rf'pip install "nimbed\[{extra}\]"'):
        importlib.import_module(name)


def test_off_unless_asked_for():
    asked = loaded_after("import nimbed.opentelemetry, nimbed.prometheus")
    assert {"opentelemetry", "prometheus_client"} <= asked
    loaded = loaded_after("from nimbed import Encoder\nEncoder('any-name', backend='fake').encode(['a text'])")
    assert not loaded & {"opentelemetry", "prometheus_client"}


@pytest.mark.parametrize("name", ["nimbed.prometheus", "nimbed.opentelemetry"])
def test_docstring_examples(name):
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 0
    assert result.failed == 0
