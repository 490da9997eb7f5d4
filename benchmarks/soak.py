"""One encoder under everything at once, for a minute: threads, tasks, bulk and a shared cache that is killed and hung.

Every vector is compared with its reference. All is on this machine alone: a Redis server of its own on a free port of
127.0.0.1, if redis-server is installed. Exits with 1 where a gate fails.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import _common
import psutil

from nimbed import CacheConfig, Encoder

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np

    from nimbed._types import Role

THREADS, TASKS, REDIS_THREADS = 32, 200, 4
MIN_COSINE = 0.9999
MAX_GROWTH_MB = 30.0
TIMEOUT_S = 0.25
# Twice the tier's timeout, on top of what the slowest call takes without the tier.
MAX_ADDED_MS = 2 * 1000 * TIMEOUT_S
WARM_SHARE = 0.25  # of the time, after which memory must not grow


@dataclass
class Watch:
    """What the callers saw."""

    encoder: Encoder
    texts: Sequence[str]
    references: dict[Role, np.ndarray]
    until: float
    calls: int = 0
    vectors: int = 0
    worst: float = 1.0
    slowest_ms: float = 0.0
    errors: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def draw(self, seed: int) -> tuple[list[int], Role]:
        """Numbers of the next call's texts: often one, sometimes many, some of them twice."""
        rng = random.Random(f"{seed} {self.calls}")
        count = rng.choice([1, 1, 1, 1, 3, 8, 40])
        role: Role = "query" if rng.random() < 0.6 else "document"
        return [rng.randrange(len(self.texts)) for _ in range(count)], role

    def check(self, numbers: list[int], role: Role, vectors: np.ndarray, seconds: float) -> None:
        """Compare one call's vectors with their references."""
        cosine = float((vectors * self.references[role][numbers]).sum(axis=1).min())
        with self.lock:
            self.calls += 1
            self.vectors += len(numbers)
            self.worst = min(self.worst, cosine)
            self.slowest_ms = max(self.slowest_ms, 1000 * seconds)

    def thread(self, seed: int) -> None:
        """One call after the other, from a thread."""
        try:
            while time.monotonic() < self.until:
                numbers, role = self.draw(seed)
                started = time.perf_counter()
                vectors = self.encoder.encode([self.texts[n] for n in numbers], role=role)
                self.check(numbers, role, vectors, time.perf_counter() - started)
        except Exception as err:
            self.errors.append(repr(err))

    async def task(self, seed: int) -> None:
        """One call after the other, from a task; some calls are given up."""
        try:
            while time.monotonic() < self.until:
                numbers, role = self.draw(seed)
                started = time.perf_counter()
                vectors = await self.encoder.aencode([self.texts[n] for n in numbers], role=role)
                self.check(numbers, role, vectors, time.perf_counter() - started)
                if seed % 10 == 0:  # some give up in the middle
                    gone = asyncio.create_task(self.encoder.aencode([self.texts[n] + " again" for n in numbers]))
                    await asyncio.sleep(0.001)
                    gone.cancel()
        except Exception as err:
            self.errors.append(repr(err))


def main() -> int:
    parser = _common.parser(__doc__)
    _common.add_data(parser)
    parser.add_argument("--seconds", type=float, default=60.0, help="of each part")
    options = parser.parse_args()
    seconds = 5.0 if options.quick else options.seconds
    texts = [*_common.questions(), *(t[:400] for t in _common.passages(options.data, 400))]
    conditions = _common.conditions(threads_calling=THREADS, tasks=TASKS, seconds=seconds, texts=len(texts))
    with Encoder(options.model, cache=None, truncate="silent") as encoder:
        artefact = encoder.info.artefact
        references: dict[Role, np.ndarray] = {
            "document": encoder.encode(texts), "query": encoder.encode(texts, role="query")
        }  # fmt: skip
    record = {"conditions": conditions, "hammer": hammer(artefact, texts, references, seconds)}
    if shutil.which("redis-server"):
        record["redis"] = with_redis(artefact, texts, references, seconds)
    else:
        print("redis-server is not installed: its part is left out", file=sys.stderr)
    report(record)
    return _common.finish(options, "soak", record, judge(record))


def hammer(
    artefact: str, texts: Sequence[str], references: dict[Role, np.ndarray], seconds: float, cache: object = 300_000
) -> dict[str, float]:
    """All callers at once; the cache holds a third of the texts, so it keeps evicting."""
    process = psutil.Process()
    with Encoder(artefact, cache=cache, truncate="silent") as encoder:
        began = time.monotonic()
        watch = Watch(encoder, texts, references, until=began + seconds)
        resident: list[tuple[float, float]] = []

        async def tasks() -> None:
            hammering = asyncio.gather(*(watch.task(1000 + seed) for seed in range(TASKS)))
            while not hammering.done():
                resident.append((time.monotonic() - began, process.memory_info().rss / 1e6))
                await asyncio.wait({hammering}, timeout=0.5)
            await hammering

        with calling(watch, THREADS):
            asyncio.run(tasks())
        stats = encoder.stats()
    warm = max(mb for at, mb in resident if at <= WARM_SHARE * seconds)
    return {
        "calls": watch.calls,
        "vectors": watch.vectors,
        "errors": len(watch.errors),
        "worst cosine": watch.worst,
        "resident MB when warm": warm,
        "resident MB at most later": max(mb for at, mb in resident if at > WARM_SHARE * seconds),
        "cache hits": stats.cache.hits,
        "joined": stats.cache.joined,
        "evictions": stats.cache.evictions,
        "p99 ms of queries": stats.latency_ms["query"].p99,
        **({"first error": watch.errors[0]} if watch.errors else {}),
    }


def with_redis(
    artefact: str, texts: Sequence[str], references: dict[Role, np.ndarray], seconds: float
) -> dict[str, float]:
    """A few callers while their Redis server is hung, killed, started anew and filled with garbage."""
    calm = without_redis(artefact, texts, references, seconds / 2)
    with tempfile.TemporaryDirectory() as folder, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        url = f"redis://127.0.0.1:{port}/0"
        config = CacheConfig(size_bytes=50_000, url=url, timeout_s=TIMEOUT_S)
        server = start_redis(port, folder)
        with Encoder(artefact, cache=config, truncate="silent") as encoder:
            watch = Watch(encoder, texts, references, until=time.monotonic() + seconds)
            states = []
            with calling(watch, REDIS_THREADS):
                while time.monotonic() < watch.until:
                    time.sleep(seconds / 20)
                    server.send_signal(signal.SIGSTOP)
                    time.sleep(seconds / 20)
                    states.append(encoder.stats().cache.tier.state)
                    server.send_signal(signal.SIGCONT)
                    time.sleep(seconds / 20)
                    server.kill()
                    server.wait()
                    time.sleep(seconds / 20)
                    states.append(encoder.stats().cache.tier.state)
                    server = start_redis(port, folder)
                    time.sleep(seconds / 10)
                    fill_with_garbage(url)
            tier = encoder.stats().cache.tier
        server.kill()
        server.wait()
    return {
        "calls": watch.calls,
        "errors": len(watch.errors) + len(calm.errors),
        "worst cosine": watch.worst,
        "slowest call ms": watch.slowest_ms,
        "slowest call without Redis ms": calm.slowest_ms,
        "times seen down": states.count("down"),
        "hits": tier.hits,
        "damaged": tier.damaged,
        "failures": tier.failures,
        "written": tier.written,
        "dropped": tier.dropped,
        **({"first error": (watch.errors + calm.errors)[0]} if watch.errors + calm.errors else {}),
    }


def without_redis(artefact: str, texts: Sequence[str], references: dict[Role, np.ndarray], seconds: float) -> Watch:
    """What the same callers see with the cache in process alone."""
    with Encoder(artefact, cache=CacheConfig(size_bytes=50_000), truncate="silent") as encoder:
        watch = Watch(encoder, texts, references, until=time.monotonic() + seconds)
        with calling(watch, REDIS_THREADS):
            pass
    return watch


@contextmanager
def calling(watch: Watch, count: int) -> Iterator[None]:
    """So many threads make calls, and end when the watch does."""
    threads = [threading.Thread(target=watch.thread, args=(seed,)) for seed in range(count)]
    for thread in threads:
        thread.start()
    yield
    for thread in threads:
        thread.join()


def start_redis(port: int, folder: str) -> subprocess.Popen[bytes]:
    """A server without persistence; returns when it answers."""
    import redis

    arguments = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
    server = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(500):
        try:
            redis.Redis(port=port).ping()
            break
        except (redis.RedisError, OSError):
            time.sleep(0.01)
    return server


def fill_with_garbage(url: str) -> None:
    """Every other value is cut, emptied or exchanged for its neighbour's."""
    import redis

    client = redis.Redis.from_url(url)
    keys = client.keys("nimbed:*")
    values = client.mget(keys) if keys else []
    for n, key in enumerate(keys[::2]):
        client.set(key, [b"", b"garbage", (values[2 * n] or b"")[:-1], values[2 * n - 1] or b"x"][n % 4])


def judge(record: dict[str, dict[str, float]]) -> dict[str, bool]:
    """The gates, by name."""
    hammered = record["hammer"]
    growth = hammered["resident MB at most later"] - hammered["resident MB when warm"]
    gates = {
        f"every vector's cosine with its reference at least {MIN_COSINE}": hammered["worst cosine"] >= MIN_COSINE,
        "no exception": hammered["errors"] == 0,
        f"memory grows by less than {MAX_GROWTH_MB} MB after the warm-up": growth < MAX_GROWTH_MB,
    }
    if "redis" in record:
        broken = record["redis"]
        gates |= {
            "Redis hung, killed, full of garbage: no failed embedding": broken["errors"] == 0,
            "Redis hung, killed, full of garbage: no wrong vector": broken["worst cosine"] >= MIN_COSINE,
            f"Redis hung, killed, full of garbage: at most {MAX_ADDED_MS:.0f} ms more than the slowest call without": (
                broken["slowest call ms"] <= broken["slowest call without Redis ms"] + MAX_ADDED_MS
            ),
            "Redis was really down, and damaged values were really met": (
                broken["times seen down"] > 0 and broken["damaged"] > 0
            ),
        }
    return gates


def report(record: dict[str, dict[str, float]]) -> None:
    """The tables, in Markdown."""
    for part in ("hammer", "redis"):
        if part in record:
            print(f"\n| {part} | |\n|---|---|")
            for name, value in record[part].items():
                print(f"| {name} | {value:.4f} |" if isinstance(value, float) else f"| {name} | {value} |")


if __name__ == "__main__":
    sys.exit(main())
