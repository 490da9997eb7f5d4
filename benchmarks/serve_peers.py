"""`nimbed serve` beside infinity-emb, the Python server that people use: 64 connections with one short query each.

infinity-emb runs in an environment of its own (`make infinity-env`), on the same model: by its torch engine, and by its
optimum engine on an int8 ONNX graph, as the hub has them. Each server is a process that rests (SIGSTOP) while another
is measured, in turns. The load generator is _http_load.py, in another process on the same cores: rates are those of the
time that its CPU seconds left, and the ratio as the clock has it is printed beside. Exits with 1 where a gate fails.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import _common
import numpy as np
import psutil
from _apart import Home
from _served import Running, Served
from platformdirs import user_cache_path

from nimbed import Encoder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

CONNECTIONS = 64
MIN_RATE = 5.0  # times infinity-emb's queries a second
MIN_COSINE, MIN_MEAN_COSINE = 0.97, 0.99  # of a vector to infinity-emb's, which are fp32 and int8
START_S = 600.0  # its warm-up takes long where other work goes on beside it
SETTLE_S = 1.0  # for what it still computes of requests whose connections the generator has closed
HOME = Home("infinity", "infinity-emb", ())
NAME, NIMBED, TORCH, OPTIMUM = "minilm", "nimbed", "infinity-emb, torch", "infinity-emb, optimum int8"


class Infinity(Running):
    """infinity-emb on a free port, without its log and its statistics of use."""

    def __init__(self, folder: Path, engine: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = int(free.getsockname()[1])
        program = Path(HOME.interpreter).with_name("infinity_emb")
        line = [str(program), "v2", "--model-id", str(folder), "--engine", engine, "--device", "cpu",
                "--pooling-method", "mean", "--served-model-name", NAME, "--url-prefix", "/v1", "--host", "127.0.0.1",
                "--port", str(port), "--log-level", "error"]  # fmt: skip
        quiet = {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "INFINITY_ANONYMOUS_USAGE_STATS": "0"}
        process = subprocess.Popen(line, env={**os.environ, **quiet}, stdout=subprocess.DEVNULL, text=True)
        super().__init__(process, port)
        end = time.perf_counter() + START_S
        while True:
            with contextlib.suppress(OSError):
                if self.get("/health") == 200:
                    return
            if process.poll() is not None or time.perf_counter() > end:
                process.kill()
                raise RuntimeError(f"infinity-emb did not start with its {engine} engine; what it wrote says why")
            time.sleep(0.2)


def main() -> int:
    options = _common.parser(__doc__).parse_args()
    if HOME.version is None:
        print("infinity-emb is not installed: make infinity-env", file=sys.stderr)
        return 1
    seconds, rounds = (15.0, 1) if options.quick else (5.0, 5)
    texts = [f"{query} {n}" for n in range(16) for query in _common.questions()]
    with Encoder(options.model, cache=None) as encoder:
        artefact = str(encoder.info.artefact)
    more = {"infinity-emb": HOME.version, "connections": CONNECTIONS, "rounds": rounds, "seconds": seconds}
    record: dict[str, Any] = {"conditions": _common.conditions(**more)}
    with contextlib.ExitStack() as stack:
        servers: dict[str, Running] = {
            NIMBED: stack.enter_context(Served(artefact, "--alias", NAME, "--cache", "0")),
            TORCH: stack.enter_context(Infinity(Path(options.model), "torch")),
            OPTIMUM: stack.enter_context(Infinity(with_graph(Path(options.model)), "optimum")),
        }
        record["cosines"] = agreement(servers, texts[:CONNECTIONS])
        record["servers"] = measured(servers, texts, seconds, rounds)
    report(record)
    return _common.finish(options, "serve_peers", record, judge(record))


def with_graph(model: Path) -> Path:
    """A copy of the model folder with ONNX Runtime's int8 graph, which the optimum engine prefers on a CPU."""
    target = user_cache_path("nimbed") / "peers" / f"{model.name}-quantized"
    if not target.is_dir():
        from _peer_models import onnx_int8

        target.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=target.parent) as part:
            made = Path(part) / model.name
            shutil.copytree(model, made)
            onnx_int8(made)
            (made / "onnx" / "model.onnx").unlink()
            (made / "onnx" / "model_int8.onnx").rename(made / "onnx" / "model_quantized.onnx")
            made.rename(target)
    return target


@contextlib.contextmanager
def awake(servers: Mapping[str, Running], name: str) -> Iterator[Running]:
    """One server runs, and the others rest."""
    others = [one.process.pid for other, one in servers.items() if other != name]
    for pid in others:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield servers[name]
        time.sleep(SETTLE_S)
    finally:
        for pid in others:
            os.kill(pid, signal.SIGCONT)


def agreement(servers: Mapping[str, Running], texts: Sequence[str]) -> dict[str, dict[str, float]]:
    """Lengths and cosines of nimbed's vectors beside the others'."""
    vectors = {}
    for name, server in servers.items():
        found = server.post({"model": NAME, "input": list(texts)})["data"]
        vectors[name] = np.array([item["embedding"] for item in found], np.float32)
    cosines = {}
    for name in (TORCH, OPTIMUM):
        assert vectors[name].shape == vectors[NIMBED].shape, f"{name}: {vectors[name].shape}"
        norms = np.linalg.norm(vectors[name], axis=1)
        assert np.allclose(norms, 1, atol=1e-3), f"{name}: norms from {norms.min()} to {norms.max()}"
        worst, mean = _common.worst_and_mean_cosine(vectors[NIMBED], vectors[name])
        cosines[name] = {"worst": worst, "mean": mean}
    return cosines


def measured(
    servers: Mapping[str, Running], texts: Sequence[str], seconds: float, rounds: int
) -> dict[str, dict[str, Any]]:
    """Queries a second and latencies of each, in turns; the first round only warms."""
    bodies = [{"model": NAME, "input": text, "encoding_format": "base64"} for text in texts]
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in servers}
    for number in range(rounds + 1):
        for name in servers:
            with awake(servers, name) as server:
                loaded = server.load(CONNECTIONS, seconds, bodies)
            if number:
                found[name].append(loaded)
                print(
                    f"  round {number}, {name}: {loaded['requests'] / loaded['seconds']:.0f} a second", file=sys.stderr
                )
    return {name: summary(some) for name, some in found.items()}


def summary(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of one server: medians, and the rates of each round, since rounds are compared."""
    cores = psutil.cpu_count() or 1
    rates = [one["requests"] / (one["seconds"] - one["cpu_s"] / cores) for one in found]
    clock = [one["requests"] / one["seconds"] for one in found]
    waits = np.concatenate([one["ms"] for one in found])
    return {
        "rates": rates,
        "rates by the clock": clock,
        "queries a second": median(rates),
        "by the clock": median(clock),
        "p50 ms": float(np.percentile(waits, 50)),
        "p99 ms": float(np.percentile(waits, 99)),
        "CPU us a query": median(1e6 * one["server_cpu_s"] / one["requests"] for one in found),
        "generator, CPU us a query": median(1e6 * one["cpu_s"] / one["requests"] for one in found),
    }


def ratio(record: Mapping[str, Any], name: str, which: str = "rates") -> float:
    """The median of the rounds' ratios."""
    servers = record["servers"]
    return median(a / b for a, b in zip(servers[NIMBED][which], servers[name][which], strict=True))


def judge(record: Mapping[str, Any]) -> dict[str, bool]:
    """The gates, by name."""
    gates = {}
    for name in (TORCH, OPTIMUM):
        cosines = record["cosines"][name]
        gates[f"at least {MIN_RATE:g} times the queries a second of {name}"] = ratio(record, name) >= MIN_RATE
        near = cosines["worst"] >= MIN_COSINE and cosines["mean"] >= MIN_MEAN_COSINE
        gates[f"cosines to {name}: at least {MIN_COSINE}, and {MIN_MEAN_COSINE} in the mean"] = near
    return gates


def report(record: Mapping[str, Any]) -> None:
    """The table, in Markdown."""
    columns = ("queries a second", "by the clock", "p50 ms", "p99 ms", "CPU us a query", "generator, CPU us a query")
    print(f"\n| 64 connections | {' | '.join(columns)} | nimbed's rate over it (by the clock) | worst cosine (mean) |")
    print("|---|" + "---|" * (len(columns) + 2))
    for name, found in record["servers"].items():
        cells = [f"{found[column]:.4g}" for column in columns]
        if name == NIMBED:
            print(f"| {name} | {' | '.join(cells)} | | |")
            continue
        cosines = record["cosines"][name]
        cells += [f"{ratio(record, name):.2f} ({ratio(record, name, 'rates by the clock'):.2f})",
                  f"{cosines['worst']:.4f} ({cosines['mean']:.4f})"]  # fmt: skip
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    sys.exit(main())
