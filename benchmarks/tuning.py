"""What moves OpenVINO's speed on this machine, and what does not.

Streams, batches, pinning, hints, one product for Q, K and V, a lone query's graph, the allocator, the model cache. The
others of a table are compared with its first line. Variants take turns (A B A B), and a variant for documents that
gives other vectors has no figures.
"""

from __future__ import annotations

import argparse
import ctypes.util
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any

import _common
import numpy as np
from _lone_query import lone_queries

import nimbed
from nimbed import _machine
from nimbed._serving.plan import plan
from nimbed._text.tokenizer import load_tokenizer
from nimbed._types import TokenBatch
from nimbed.backends.openvino_api import op as ops
from nimbed.backends.openvino_api import ov
from nimbed.backends.shapes import ShapePolicy

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

MAX_TOKENS = 256
# Of a variant's vectors, 1 - cosine: in int8 the last bit of a sum can move a rounded value by a whole step.
MAX_DISTANCE = {"fp32": 1e-4, "int8": 3e-3}
ALLOCATORS = ("tcmalloc_minimal", "jemalloc", "mimalloc")


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A way to compile and to feed the same graph."""

    name: str
    streams: int = 1
    tokens_per_thread: int = 512
    properties: dict[str, Any] = field(default_factory=dict)
    one_qkv: bool = False


TABLES = {
    "streams and tokens in a batch": [
        Variant(name="1 stream, 512 a thread"),
        *(Variant(name=f"1 stream, {n} a thread", tokens_per_thread=n) for n in (256, 1024, 2048)),
        *(Variant(name=f"a stream each thread, {n} a thread", streams=0, tokens_per_thread=n) for n in (512, 1024)),
    ],
    "properties": [
        Variant(name="latency hint"),
        Variant(name="throughput hint, 1 stream", properties={"PERFORMANCE_HINT": "THROUGHPUT"}),
        Variant(name="threads not pinned", properties={"ENABLE_CPU_PINNING": False}),
        Variant(name="dynamic quantization, groups of 32", properties={"DYNAMIC_QUANTIZATION_GROUP_SIZE": 32}),
        Variant(name="no dynamic quantization", properties={"DYNAMIC_QUANTIZATION_GROUP_SIZE": 0}),
    ],
    "graph": [Variant(name="Q, K and V apart"), Variant(name="one product for Q, K and V", one_qkv=True)],
}


def main() -> int:
    parser = _common.parser(__doc__)
    _common.add_data(parser)
    parser.add_argument("--texts", type=int, default=256, help="how many passages")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--precision", choices=["int8", "fp32"], help="default: what nimbed would choose here")
    parser.add_argument("--worker", choices=["allocator", "cache"], help=argparse.SUPPRESS)
    parser.add_argument("--cache-folder", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.quick:
        options.texts, options.rounds = 32, 1
    precision = options.precision or ("int8" if _machine.cpu().fast_int8 else "fp32")
    folder = nimbed.quantize(options.model, precision=precision, backend="openvino", progress=False).folder
    if options.worker:
        print(json.dumps({"allocator": allocator_worker, "cache": cache_worker}[options.worker](folder, options)))
        return 0
    record: dict[str, Any] = {
        "conditions": _common.conditions(precision=precision, texts=options.texts, rounds=options.rounds)
    }
    sequences = tokens(folder, _common.passages(options.data, options.texts))
    for name, variants in TABLES.items():
        record[name] = compare(folder, sequences, variants, options.rounds, MAX_DISTANCE[precision])
        table(name, "documents a second", record[name])
    record["lone query"] = lone = lone_queries(folder, tokens(folder, _common.questions()), options.rounds)
    table("lone query, lengths seen before", "p50, ms", lone["p50, ms"])
    for name, vectors in lone["vectors"].items():
        print(f"{name}: {vectors}")
    print(f"the first: {lone['first, of a call']}")
    record["allocator"] = allocators(options)
    table("allocator, in processes of their own", "documents a second", record["allocator"])
    record["model cache"] = model_cache(options)
    table("model cache folder, in processes of their own", "seconds to compile", record["model cache"])
    return _common.finish(options, "tuning", record, {})


def tokens(folder: Path, texts: Sequence[str]) -> list[np.ndarray]:
    """Token ids, cut at 256."""
    tokenizer = load_tokenizer(folder)
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_TOKENS)
    return [np.array(e.ids, np.int32) for e in tokenizer.encode_batch(list(texts))]


class Opened:
    """A variant, compiled."""

    def __init__(self, folder: Path, sequences: Sequence[np.ndarray], variant: Variant) -> None:
        threads = _machine.thread_plan().threads
        streams = variant.streams or threads
        network = ov.Core().read_model(folder / "model.xml")
        if variant.one_qkv:
            assert join_qkv(network), "no three products of one input were found"
        plain = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        properties = {**plain, "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": streams, **variant.properties}
        self._compiled = ov.Core().compile_model(network, "CPU", properties)
        names = [port.get_any_name() for port in self._compiled.inputs]
        budget = variant.tokens_per_thread * threads // streams
        shapes = ShapePolicy.bucketed(max_length=MAX_TOKENS, token_budget=budget)
        self._batches = []
        for batch in plan([len(s) for s in sequences], shapes):
            rows = TokenBatch.from_sequences([sequences[i] for i in batch])
            padded = rows.padded(shapes.pad_to(int(rows.lengths.max()), rows=len(rows)))
            self._batches.append((batch, {name: padded[name] for name in names}))
        self._requests = [self._compiled.create_infer_request() for _ in range(streams)]
        self._count = len(sequences)

    def vectors(self) -> np.ndarray:
        """``[texts, dim]``; each stream has a thread that takes the next batch."""
        waiting: queue.SimpleQueue[tuple[np.ndarray, dict[str, np.ndarray]]] = queue.SimpleQueue()
        for batch in self._batches:
            waiting.put(batch)
        rows: dict[int, np.ndarray] = {}

        def work(request: Any) -> None:  # noqa: ANN401
            while not waiting.empty():
                try:
                    indices, inputs = waiting.get_nowait()
                except queue.Empty:
                    return
                request.infer(inputs, share_inputs=True)
                rows.update(zip(indices.tolist(), np.array(request.get_output_tensor(0).data), strict=True))

        threads = [threading.Thread(target=work, args=(request,)) for request in self._requests]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return np.stack([rows[n] for n in range(self._count)])

    def rate(self) -> float:
        """Documents a second."""
        return self._count / _common.seconds(self.vectors)


def compare(
    folder: Path, sequences: Sequence[np.ndarray], variants: Sequence[Variant], rounds: int, distance: float
) -> dict[str, Any]:
    """Documents a second of each round, by variant; the vectors agree, and a round goes before those that count."""
    opened = {variant.name: Opened(folder, sequences, variant) for variant in variants}
    expected = next(iter(opened.values())).vectors()
    rates: dict[str, Any] = {name: [] for name in opened}
    for name, variant in list(opened.items()):
        worst, _ = _common.worst_and_mean_cosine(variant.vectors(), expected)
        if 1 - worst > distance:
            rates[name] = f"gives other vectors: cosine {worst:.6f} at worst"
            del opened[name]
    for _ in range(rounds):
        for name, variant in opened.items():
            rates[name].append(variant.rate())
    return rates


def join_qkv(network: ov.Model) -> int:
    """Let one product with the joined weights and biases take the place of three of one input; how many times."""
    groups: dict[str, list[ov.Node]] = {}
    for node in network.get_ordered_ops():
        if node.get_type_name() == "MatMul" and not _varies(node.input_value(1)):
            port = node.input_value(0)
            groups.setdefault(f"{port.get_node().get_friendly_name()}:{port.get_index()}", []).append(node)
    joined = [nodes for nodes in groups.values() if len(nodes) == 3]
    for nodes in joined:
        sums = [next(iter(node.output(0).get_target_inputs())).get_node() for node in nodes]
        rows_first = nodes[0].get_attributes()["transpose_b"]
        weights = _joined([node.input_value(1) for node in nodes], axis=0 if rows_first else 1)
        biases = _joined([next(p for p in node.input_values() if not _varies(p)) for node in sums], axis=-1)
        product = ops.matmul(nodes[0].input_value(0), weights, transpose_a=False, transpose_b=rows_first)
        widths = [node.get_output_partial_shape(0)[-1].get_length() for node in sums]
        parts = ops.variadic_split(ops.add(product, biases), ops.constant(-1), ops.constant(widths))
        for number, node in enumerate(sums):
            for reader in node.output(0).get_target_inputs():
                reader.replace_source_output(parts.output(number))
    network.validate_nodes_and_infer_types()
    return len(joined)


def _varies(port: ov.Output) -> bool:
    """Whether it depends on the network's inputs."""
    node = port.get_node()
    return node.get_type_name() == "Parameter" or any(_varies(above) for above in node.input_values())


def _joined(ports: Sequence[ov.Output], axis: int) -> ov.Node:
    """Constants side by side; those kept in int8 stay so: scales (a row each) are joined apart from what they scale."""
    nodes = [port.get_node() for port in ports]
    kind = nodes[0].get_type_name()
    if kind == "Constant":
        return ops.constant(np.concatenate([node.data for node in nodes], axis))
    inner = [_joined([node.input_value(n) for node in nodes], axis) for n in range(len(nodes[0].input_values()))]
    return ops.convert(*inner, "f32") if kind == "Convert" else ops.multiply(*inner)


def allocators(options: argparse.Namespace) -> dict[str, Any]:
    """The same run with each allocator that this system has, loaded before all else; the system's own first."""
    found = {"the system's": None} | {name: ctypes.util.find_library(name) for name in ALLOCATORS}
    rates: dict[str, Any] = {name: [] for name, library in found.items() if library or name == "the system's"}
    for _ in range(options.rounds):
        for name, some in rates.items():
            preload = {"LD_PRELOAD": found[name]} if found[name] else {}
            some.append(worker("allocator", options, preload).get("documents_per_s"))
    crashed = {name: "the process dies in OpenVINO" for name, some in rates.items() if None in some}
    return rates | crashed | {name: "not installed" for name in found if name not in rates}


def allocator_worker(folder: Path, options: argparse.Namespace) -> dict[str, float]:
    opened = Opened(folder, tokens(folder, _common.passages(options.data, options.texts)), Variant(name=""))
    opened.rate()
    return {"documents_per_s": opened.rate()}


def model_cache(options: argparse.Namespace) -> dict[str, Any]:
    """Seconds to compile, without a cache folder and from one that is filled."""
    with tempfile.TemporaryDirectory() as folder:
        worker("cache", options, {}, folder)
        plain, cached = [], []
        for _ in range(options.rounds):
            plain.append(worker("cache", options, {})["seconds"])
            cached.append(worker("cache", options, {}, folder)["seconds"])
    return {"none": plain, "filled": cached}


def cache_worker(folder: Path, options: argparse.Namespace) -> dict[str, float]:
    properties = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1}
    if options.cache_folder:
        properties["CACHE_DIR"] = options.cache_folder
    core, started = ov.Core(), time.perf_counter()
    core.compile_model(folder / "model.xml", "CPU", properties)
    return {"seconds": time.perf_counter() - started}


def worker(
    kind: str, options: argparse.Namespace, environment: dict[str, str], cache: str | None = None
) -> dict[str, float]:
    """This script in a process of its own; nothing where a signal ended it."""
    command = [sys.executable, __file__, "--worker", kind, "--model", options.model, "--data", str(options.data)]
    command += ["--texts", str(options.texts), *(["--cache-folder", cache] if cache else [])]
    command += ["--precision", options.precision] if options.precision else []
    done = subprocess.run(command, check=False, capture_output=True, text=True, env={**os.environ, **environment})
    if done.returncode > 0:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout) if done.returncode == 0 else {}


def table(name: str, unit: str, values: dict[str, Any]) -> None:
    """Medians, and how many times the first line's."""
    first = median(next(iter(values.values())))
    print(f"\n| {name} | {unit} | times the first | range |\n|---|---|---|---|")
    for variant, some in values.items():
        if isinstance(some, str):
            print(f"| {variant} | {some} | | |")
        else:
            print(
                f"| {variant} | {median(some):.3g} | {median(some) / first:.3f} | {min(some):.3g} to {max(some):.3g} |"
            )


if __name__ == "__main__":
    sys.exit(main())
