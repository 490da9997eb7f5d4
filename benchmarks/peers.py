"""nimbed beside what people use in its place, in one run: latency, throughput, service, start and memory.

Contenders take turns (A B A B) on the same texts with the same threads, beside the roof of the machine; one whose
vectors do not agree with transformers' in fp32 has no figures. Seeded models of other shapes and networks are compared
in speed alone; of a network, a query is set beside what memory and arithmetic allow. Exits with 1 where a gate fails.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import _apart
import _common
import _peer_models
import _peers
import _query_limits
from _summary import PAUSED, summary
from platformdirs import user_cache_path

from nimbed import _machine, quantize
from nimbed._loading.auto import native_missing
from nimbed.bench import PARTS, Texts, bench, save_plots
from nimbed.bench.network import network_of
from nimbed.evaluate import Setting
from nimbed.quantization import Calibration, QualityGate

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from _peer_models import Model

    from nimbed.bench import BenchReport, Contender

# The native engine's gates, and below OpenVINO's, which is what runs where the native one does not fit.
NATIVE_OVER_INT8 = 1.5
NATIVE_OVER_LANGCHAIN = 3.0
NATIVE_QUERY_MS = 1.5
NATIVE_P99 = 3.0
MIN_OVER_PEERS = 1.15
MIN_OVER_LANGCHAIN = 1.8
MIN_OVER_IPEX = 0.95
MAX_QUERY_MS = 4.0
MAX_QUERY_SHARE = 1 / 5
DECODERS = ("qwen3-0.6b", "embeddinggemma-300m")
DECODERS_PEERS = {"sentence-transformers fp32": 4.0, "sentence-transformers bf16": 1.4, _apart.LLAMA_CPP: 3.0}
MAX_QUERY_LIMITS = 1.5
MAX_OF_ONE_THREAD = 0.65  # two threads or more
INT8_PEERS = ("sentence-transformers OpenVINO int8", "ONNX Runtime int8")
LANGCHAIN, IPEX = "HuggingFaceEmbeddings", _apart.IPEX
NATIVE, OPENVINO = "nimbed native int8", "nimbed OpenVINO int8"
ONE_THREAD = f"{NATIVE}, one thread"
APART = (_apart.IPEX, _apart.CTRANSLATE2, _apart.FASTEMBED, _apart.LLAMA_CPP)
NETWORK_PARTS, NETWORK_TEXTS, NETWORK_LENGTH = ("pauses", "documents"), 32, 512
DOCUMENTS = ("documents", "natural lengths")
QUERIES, QUERIES_P99 = (("latency", f"natural lengths, as they come, {share}") for share in ("p50", "p99"))


def main() -> int:
    options = arguments()
    options.work.mkdir(parents=True, exist_ok=True)
    model = _peer_models.chosen(options, _common.default_model())
    count = options.texts or (NETWORK_TEXTS if model.network else 512)
    texts = Texts(
        documents=_common.passages(options.data, count),
        queries=_common.questions(),
        origin=f"{count} passages of PEPs, the questions of examples/",
    )
    everyone = network_contenders(model) if model.network else contenders(model, options.work, texts.documents)
    report = bench(
        everyone,
        parts=options.only or (NETWORK_PARTS if model.network else tuple(PARTS)),
        texts=texts,
        max_length=NETWORK_LENGTH if model.network else _peers.MAX_LENGTH,
        rounds=options.rounds,
        quick=options.quick,
        progress=True,
    )
    print(report.to_markdown())
    name = f"peers-{model.name}" if model.name else "peers"
    if options.plot:
        save_plots(report, options.out / name)
    record = json.loads(report.to_json())
    record["conditions"]["versions"] |= _apart.versions([one.label for one in everyone if one.label in _apart.HOMES])
    print(summary(record))
    if not model.network:
        return _common.finish(options, name, record, {} if model.name else judge(report))
    record["query limits"] = query_limits(report, everyone, texts.queries)
    decoder = options.model in DECODERS
    return _common.finish(options, name, record, judge_decoder(report, record["query limits"]) if decoder else {})


def arguments() -> argparse.Namespace:
    parser = _common.parser(__doc__)
    _common.add_data(parser)
    seeded = ", ".join([*_peer_models.SHAPES, *_peer_models.NETWORKS])
    parser.add_argument("--only", action="append", choices=list(PARTS), help="parts of the bench (default: all)")
    parser.add_argument("--layers", type=int, help=f"another depth of a seeded model (--model {seeded})")
    parser.add_argument("--texts", type=int, help=f"how many passages (default: 512, of a network {NETWORK_TEXTS})")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each that count")
    parser.add_argument("--plot", action="store_true", help="charts beside the JSON file")
    parser.add_argument("--work", type=Path, default=user_cache_path("nimbed") / "peers", help="for the peers' models")
    return parser.parse_args()


def contenders(model: Model, work: Path, calibration: list[str]) -> list[Contender]:
    """Our own engines on a BERT, then the peers; transformers in fp32 is the reference."""
    folder, threads = model.folder, _machine.thread_plan().threads
    ready = str(_peer_models.with_peers_graphs(folder, work / f"{folder.name}-graphs", calibration[:300]))
    own = [
        Setting(model=_built(model, backend), name=name)
        for backend, name in (("native", NATIVE), ("openvino", OPENVINO))
        if (native_missing() is None if backend == "native" else _machine.cpu().fast_int8)
    ]
    own.append(Setting(model=str(folder), backend="openvino", precision="fp32", name="nimbed OpenVINO fp32"))
    peers: list[Contender] = [
        _peers.LangChain(label=LANGCHAIN, folder=str(folder), threads=threads),
        _peers.LlamaIndex(label="HuggingFaceEmbedding (LlamaIndex)", folder=str(folder), threads=threads),
        _peers.SentenceTransformersOpenVino(label=INT8_PEERS[0], folder=ready, threads=threads),
        _peers.OnnxRuntime(label=INT8_PEERS[1], folder=ready, threads=threads),
        *_apart.installed([label for label in APART if label != IPEX or not model.name], ready, threads),
    ]
    if _machine.cpu().bf16:
        peers.append(
            _peers.Transformers(label="transformers bf16", folder=str(folder), threads=threads, dtype="bfloat16")
        )
    return [*own, *peers, _peers.Transformers(label="transformers fp32", folder=str(folder), threads=threads)]


def network_contenders(model: Model) -> list[Contender]:
    """The native engine, and who else runs such a network; sentence-transformers in fp32 is the reference."""
    folder, threads = str(model.folder), _machine.thread_plan().threads
    name = "sentence-transformers"
    own = [Setting(model=_built(model, "native"), name=NATIVE)]
    if threads > 1:
        own.append(Setting(model=own[0].model, name=ONE_THREAD, threads=1))
    peers: list[Contender] = [*_apart.installed([_apart.LLAMA_CPP], folder, threads)]
    if "avx512_bf16" in _machine.cpu().features and "amx_bf16" not in _machine.cpu().features:
        peers.append(
            _peers.SentenceTransformers(label=f"{name} bf16", folder=folder, threads=threads, dtype="bfloat16")
        )
    return [*own, *peers, _peers.SentenceTransformers(label=f"{name} fp32", folder=folder, threads=threads)]


def _built(model: Model, backend: str) -> str:
    """An int8 artefact; random weights need not rank like anything, and what tells texts apart is checked here."""
    gate = QualityGate(mean_cosine=0, min_cosine=0, top10_agreement=0, rank_correlation=0) if model.name else None
    texts = Calibration(count=24) if model.network else None
    return str(quantize(model.folder, backend=backend, gate=gate, calibration=texts).folder)


def query_limits(report: BenchReport, everyone: Sequence[Contender], queries: Sequence[str]) -> dict[str, Any]:
    """What bounds a query here, and how many times that each takes; printed too."""
    from native_roof import Measure, kernels  # needs the native engine, which runs networks alone

    threads = _machine.thread_plan().threads
    found = _query_limits.limits(
        network_of(everyone),
        queries,
        max_length=NETWORK_LENGTH,
        threads=threads,
        gops=max(*report.roof["int8"], Measure(kernels(), 3).panel_roof(threads)),
    )
    p50 = {one.label: figure.median for one in everyone if (figure := report.find(*PAUSED, one.label)) is not None}
    print(_query_limits.shown(found, p50))
    return _query_limits.recorded(found, p50)


def judge(report: BenchReport) -> dict[str, bool]:
    """The gates, by name; those of a part that was not run, or of an engine that is not here, are left out."""
    gates = {}
    over = {
        NATIVE: (NATIVE_OVER_INT8, NATIVE_OVER_LANGCHAIN, NATIVE_OVER_INT8),
        OPENVINO: (MIN_OVER_PEERS, MIN_OVER_LANGCHAIN, MIN_OVER_IPEX),
    }
    for own, (int8, langchain, ipex) in over.items():
        least = {**dict.fromkeys(INT8_PEERS, int8), LANGCHAIN: langchain, IPEX: ipex}
        if own == NATIVE:
            least[OPENVINO] = NATIVE_OVER_INT8
        if (ours := report.find(*DOCUMENTS, own)) is None:
            continue
        for peer, times in least.items():
            if (theirs := report.find(*DOCUMENTS, peer)) is not None:
                gates[f"{own}, documents a second: at least {times} times {peer}"] = (
                    ours.median >= times * theirs.median
                )
    return {**gates, **_judge_queries(report)}


def judge_decoder(report: BenchReport, limits: dict[str, Any]) -> dict[str, bool]:
    """The gates of a decoder: documents beside its peers, and a query beside what bounds it."""
    ours = report.find(*DOCUMENTS, NATIVE)
    gates = {
        f"{NATIVE}, documents a second: at least {times} times {peer}": ours.median >= times * theirs.median
        for peer, times in DECODERS_PEERS.items()
        if ours is not None and (theirs := report.find(*DOCUMENTS, peer)) is not None
    }
    if NATIVE in limits["times"]:
        gates[f"{NATIVE}, a query: at most {MAX_QUERY_LIMITS} times its limit"] = (
            limits["times"][NATIVE] <= MAX_QUERY_LIMITS
        )
    if (alone := limits["times"].get(ONE_THREAD)) is not None:
        gates[f"{NATIVE}, a query: at most {MAX_OF_ONE_THREAD} of one thread's time"] = (
            limits["times"][NATIVE] <= MAX_OF_ONE_THREAD * alone
        )
    return gates


def _judge_queries(report: BenchReport) -> dict[str, bool]:
    gates = {}
    figures = {figure.contender: figure.median for figure in report.figures if (figure.part, figure.case) == QUERIES}
    best = min((value for label, value in figures.items() if not label.startswith("nimbed")), default=0.0)
    for own, most in ((NATIVE, NATIVE_QUERY_MS), (OPENVINO, MAX_QUERY_MS)):
        if own in figures:
            gates[f"{own}, p50 of a query of varied length: at most {most} ms"] = figures[own] <= most
            gates[f"{own}, - at most the best peer's"] = figures[own] <= best
            gates[f"{own}, - at most {MAX_QUERY_SHARE} of {LANGCHAIN}'"] = (
                figures[own] <= MAX_QUERY_SHARE * figures[LANGCHAIN]
            )
    if NATIVE in figures and (slow := report.find(*QUERIES_P99, NATIVE)) is not None:
        gates[f"{NATIVE}, p99 of a query: at most {NATIVE_P99} times p50"] = slow.median <= NATIVE_P99 * figures[NATIVE]
    return gates


if __name__ == "__main__":
    sys.exit(main())
