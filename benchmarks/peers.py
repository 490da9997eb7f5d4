"""nimbed beside what people use in its place, in one run: latency, throughput, service, start and memory.

Contenders take turns (A B A B) on the same texts with the same threads, beside the roof of the machine; one whose
vectors do not agree with transformers' in fp32 has no figures. Exits with 1 where a gate fails.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import _common
import _peer_models
import _peers
from _summary import summary
from platformdirs import user_cache_path

from nimbed import _machine, quantize
from nimbed._loading.auto import native_missing
from nimbed.bench import PARTS, Texts, bench, save_plots
from nimbed.evaluate import Setting
from nimbed.quantization import QualityGate

if TYPE_CHECKING:
    import argparse

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
INT8_PEERS = ("sentence-transformers OpenVINO int8", "ONNX Runtime int8")
LANGCHAIN, IPEX = "HuggingFaceEmbeddings", "IPEX int8"
NATIVE, OPENVINO = "nimbed native int8", "nimbed OpenVINO int8"
DOCUMENTS = ("documents", "natural lengths")
QUERIES, QUERIES_P99 = (("latency", f"natural lengths, as they come, {share}") for share in ("p50", "p99"))


def main() -> int:
    options = arguments()
    texts = Texts(
        documents=_common.passages(options.data, options.texts),
        queries=_common.questions(),
        origin=f"{options.texts} passages of PEPs, the questions of examples/",
    )
    report = bench(
        contenders(options, texts.documents),
        parts=options.only or tuple(PARTS),
        texts=texts,
        rounds=options.rounds,
        quick=options.quick,
        progress=True,
    )
    print(report.to_markdown())
    name = f"peers{f'-{options.shape}' if options.shape else ''}"
    if options.plot:
        save_plots(report, options.out / name)
    record = json.loads(report.to_json())
    print(summary(record))
    return _common.finish(options, name, record, {} if options.shape else judge(report))


def arguments() -> argparse.Namespace:
    parser = _common.parser(__doc__)
    _common.add_data(parser)
    parser.add_argument("--only", action="append", choices=list(PARTS), help="parts of the bench (default: all)")
    parser.add_argument("--texts", type=int, default=512, help="how many passages")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each that count")
    parser.add_argument("--shape", choices=list(_peer_models.SHAPES), help="a seeded model of that shape: speed only")
    parser.add_argument("--plot", action="store_true", help="charts beside the JSON file")
    parser.add_argument("--work", type=Path, default=user_cache_path("nimbed") / "peers", help="for the peers' models")
    return parser.parse_args()


def contenders(options: argparse.Namespace, calibration: list[str]) -> list[Contender]:
    """Our own engines, then the peers; transformers in fp32 is the reference."""
    options.work.mkdir(parents=True, exist_ok=True)
    folder, threads = Path(options.model), _machine.thread_plan().threads
    if options.shape:
        folder = _peer_models.seeded_model(options.shape, folder, options.work / options.shape)
    ready = str(_peer_models.with_peers_graphs(folder, options.work / f"{folder.name}-graphs", calibration[:300]))
    own = [
        Setting(model=_built(folder, backend, options.shape), name=name)
        for backend, name in (("native", NATIVE), ("openvino", OPENVINO))
        if (native_missing() is None if backend == "native" else _machine.cpu().fast_int8)
    ]
    own.append(Setting(model=str(folder), precision="fp32", name="nimbed OpenVINO fp32"))
    peers: list[Contender] = [
        _peers.LangChain(label=LANGCHAIN, folder=str(folder), threads=threads),
        _peers.LlamaIndex(label="HuggingFaceEmbedding (LlamaIndex)", folder=str(folder), threads=threads),
        _peers.SentenceTransformersOpenVino(label=INT8_PEERS[0], folder=ready, threads=threads),
        _peers.OnnxRuntime(label=INT8_PEERS[1], folder=ready, threads=threads),
    ]
    interpreter = user_cache_path("nimbed-env") / "ipex" / "bin" / "python"
    if interpreter.is_file() and not options.shape:
        peers.append(_peers.Ipex(label=IPEX, folder=str(folder), threads=threads, interpreter=str(interpreter)))
    else:
        print(f"without {IPEX}: make ipex-env makes its environment", file=sys.stderr)
    if _machine.cpu().bf16:
        peers.append(
            _peers.Transformers(label="transformers bf16", folder=str(folder), threads=threads, dtype="bfloat16")
        )
    return [*own, *peers, _peers.Transformers(label="transformers fp32", folder=str(folder), threads=threads)]


def _built(folder: Path, backend: str, shape: str | None) -> str:
    """An int8 artefact; random weights need not rank like anything."""
    lenient = QualityGate(mean_cosine=0, min_cosine=0, top10_agreement=0, rank_correlation=0)
    return str(quantize(folder, backend=backend, gate=lenient if shape else None).folder)


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
