"""What HTTP costs: 64 connections, one connection, bulk beside queries, SIGTERM under load, and a start after kill -9.

Server and load generator are processes of their own, on the same cores: the generator's CPU time is measured, and rates
are those of the time that it left (``rate`` is over wall time less CPU seconds by core; both are printed). In-process
calls alternate with the server's. Exits with 1 where a gate fails.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from statistics import median
from typing import TYPE_CHECKING, Any

import _common
import numpy as np
from _served import Served, cpu_of

from nimbed import Encoder

if TYPE_CHECKING:
    from collections.abc import Sequence

CALLERS = 64
MIN_RATE = 0.75  # of in-process calls of 64 threads
MAX_TAIL = 5.0  # p99 over p50, at 64 connections
MAX_OVERHEAD_MS = 0.5  # of one connection, beside the in-process call
MAX_QUERY_P99_MS = 80.0
MIN_BULK = 0.8
QUERIES_PER_SECOND = 20.0
DRAIN_S = 20
MAX_READY_S = 1.0


def main() -> int:
    parser = _common.parser(__doc__)
    _common.add_data(parser)
    options = parser.parse_args()
    seconds, pairs, stops = (1.0, 1, 1) if options.quick else (5.0, 5, 20)
    texts = [f"{query} {n}" for n in range(16) for query in _common.questions()]
    passages = _common.passages(options.data, 256 if options.quick else 2048)
    with Encoder(options.model, cache=None, truncate="silent") as encoder:
        artefact = str(encoder.info.artefact)
        record: dict[str, Any] = {
            "conditions": _common.conditions(callers=CALLERS, pairs=pairs, passages=len(passages)),
        }
        with Served(artefact, "--cache", "0") as server:
            agree(encoder, server, texts[:64])
            record["connections"] = connections(encoder, server, texts, seconds, pairs)
            record["one"] = one(encoder, server, texts, seconds, pairs)
    with Served(artefact, "--cache", "0") as server:
        record["bulk"] = bulk(server, passages, texts, pairs)
    record["stops"] = [stopped(artefact, passages) for _ in range(stops)]
    record["ready_s"] = restarted(artefact)
    report(record)
    return _common.finish(options, "serve_load", record, judge(record))


def agree(encoder: Encoder, server: Served, texts: Sequence[str]) -> None:
    """The vectors are the encoder's own."""
    found = server.post({"input": list(texts), "input_type": "query"})["data"]
    vectors = np.array([item["embedding"] for item in found], np.float32)
    assert np.array_equal(vectors, encoder.encode(texts, role="query"))


def body(text: str, form: str) -> dict[str, Any]:
    return {"input": text, "input_type": "query", "encoding_format": form}


def connections(encoder: Encoder, server: Served, texts: Sequence[str], seconds: float, pairs: int) -> dict[str, float]:
    """Texts a second of 64 connections (base64, as OpenAI's client asks for) and of 64 threads."""
    bodies = [body(text, "base64") for text in texts]
    served, called, raw, waits = [], [], [], []
    cpu: dict[str, list[float]] = {"server": [], "generator": [], "in-process": []}
    for _ in range(pairs):
        found = server.load(CALLERS, seconds, bodies)
        left = found["seconds"] - found["cpu_s"] / (os.cpu_count() or 1)
        served.append(found["requests"] / left)
        raw.append(found["requests"] / found["seconds"])
        waits += found["ms"]
        cpu["server"].append(1e6 * found["server_cpu_s"] / found["requests"])
        cpu["generator"].append(1e6 * found["cpu_s"] / found["requests"])
        rate, own = by_threads(encoder, texts, seconds)
        called.append(rate)
        cpu["in-process"].append(own)
    ratios = [a / b for a, b in zip(served, called, strict=True)]
    return {
        "served, texts a second": median(served),
        "served, as the clock has it": median(raw),
        "in-process, texts a second": median(called),
        "ratio": median(ratios),
        "p50 ms": float(np.percentile(waits, 50)),
        "p99 ms": float(np.percentile(waits, 99)),
        **{f"{name}, CPU us a text": median(some) for name, some in cpu.items()},
    }


def by_threads(encoder: Encoder, texts: Sequence[str], seconds: float) -> tuple[float, float]:
    """Texts a second of 64 threads with one query each, and the CPU microseconds of each."""
    counts, end = [0] * CALLERS, time.perf_counter() + seconds

    def caller(first: int) -> None:
        index = first
        while time.perf_counter() < end:
            encoder.encode_query(texts[index % len(texts)])
            index, counts[first] = index + CALLERS, counts[first] + 1

    threads = [threading.Thread(target=caller, args=(first,)) for first in range(CALLERS)]
    began, cpu = time.perf_counter(), cpu_of(os.getpid())
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - began
    return sum(counts) / took, 1e6 * (cpu_of(os.getpid()) - cpu) / sum(counts)


def one(encoder: Encoder, server: Served, texts: Sequence[str], seconds: float, pairs: int) -> dict[str, float]:
    """The p50 of one connection (lists of numbers), and of the in-process call."""
    bodies = [body(text, "float") for text in texts]
    served, called = [], []
    for _ in range(pairs):
        served.append(float(np.median(server.load(1, seconds, bodies)["ms"])))
        waits, end = [], time.perf_counter() + seconds
        while time.perf_counter() < end:
            text = texts[len(waits) % len(texts)]
            began = time.perf_counter()
            encoder.encode_query(text)
            waits.append(1000 * (time.perf_counter() - began))
        called.append(float(np.median(waits)))
    above = [a - b for a, b in zip(served, called, strict=True)]
    return {"served p50 ms": median(served), "in-process p50 ms": median(called), "above it ms": median(above)}


def bulk(server: Served, passages: Sequence[str], texts: Sequence[str], pairs: int) -> dict[str, float]:
    """One request of all passages alone, and beside 20 queries a second which say no role either."""
    request = {"input": list(passages), "encoding_format": "base64"}
    alone, beside, waits = [], [], []
    server.post(request)
    for _ in range(min(3, pairs)):
        alone.append(len(passages) / _common.seconds(lambda: server.post(request)))
        stop = threading.Event()
        asking = threading.Thread(target=ask, args=(server, texts, stop, waits))
        asking.start()
        beside.append(len(passages) / _common.seconds(lambda: server.post(request)))
        stop.set()
        asking.join()
    return {
        "alone, passages a second": median(alone),
        "beside queries, passages a second": median(beside),
        "query p50 ms": float(np.percentile(waits, 50)),
        "query p99 ms": float(np.percentile(waits, 99)),
        "queries": len(waits),
    }


def ask(server: Served, texts: Sequence[str], stop: threading.Event, waits: list[float]) -> None:
    """20 queries a second, whether or not the one before has been answered late; milliseconds each."""
    due = time.perf_counter()
    while not stop.is_set():
        began = time.perf_counter()
        server.post({"input": texts[len(waits) % len(texts)], "encoding_format": "base64"})
        waits.append(1000 * (time.perf_counter() - began))
        due += 1 / QUERIES_PER_SECOND
        time.sleep(max(0.0, due - time.perf_counter()))


def stopped(artefact: str, passages: Sequence[str]) -> dict[str, float]:
    """SIGTERM while 16 connections wait for 32 passages each."""
    with Served(artefact, "--cache", "0", "--drain", str(DRAIN_S)) as server:
        return server.stop_under_load({"input": list(passages[:32]), "encoding_format": "base64"}, 16)


def restarted(artefact: str) -> float:
    """Seconds from the start to the first healthy answer, after kill -9."""
    with Served(artefact) as server:
        server.process.kill()
        server.process.wait()
    times = []
    for _ in range(3):
        with Served(artefact) as again:
            times.append(again.ready_s)
    return median(times)


def judge(record: dict[str, Any]) -> dict[str, bool]:
    """The gates, by name."""
    many, single, beside, stops = record["connections"], record["one"], record["bulk"], record["stops"]
    share = beside["beside queries, passages a second"] / beside["alone, passages a second"]
    return {
        f"64 connections: at least {MIN_RATE:.0%} of 64 threads": many["ratio"] >= MIN_RATE,
        f"64 connections: p99 at most {MAX_TAIL:g} times p50": many["p99 ms"] <= MAX_TAIL * many["p50 ms"],
        f"1 connection: at most {MAX_OVERHEAD_MS} ms above the call": single["above it ms"] <= MAX_OVERHEAD_MS,
        f"beside bulk: query p99 at most {MAX_QUERY_P99_MS:g} ms": beside["query p99 ms"] <= MAX_QUERY_P99_MS,
        f"bulk beside queries: at least {MIN_BULK:.0%} of bulk alone": share >= MIN_BULK,
        "SIGTERM: no accepted request lost": all(stop["lost"] == 0 for stop in stops),
        "SIGTERM: requests were waiting": any(stop["waiting"] > 0 for stop in stops),
        "SIGTERM: exit 0 in time": all(stop["exit"] == 0 and stop["seconds"] <= DRAIN_S + 1 for stop in stops),
        f"ready within {MAX_READY_S:g} s after kill -9": record["ready_s"] <= MAX_READY_S,
    }


def report(record: dict[str, Any]) -> None:
    """The table, in Markdown."""
    print("\n| measured | |\n|---|---|")
    for part in ("connections", "one", "bulk"):
        for name, value in record[part].items():
            print(f"| {name} | {value:.2f} |")
    stops = record["stops"]
    print(f"| stops under load | {len(stops)} |\n| requests lost | {sum(stop['lost'] for stop in stops)} |")
    print(f"| slowest stop, s | {max(stop['seconds'] for stop in stops):.2f} |")
    print(f"| ready, s | {record['ready_s']:.2f} |")


if __name__ == "__main__":
    sys.exit(main())
