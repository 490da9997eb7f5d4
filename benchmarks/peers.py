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
from platformdirs import user_cache_path

from nimbed import _machine, quantize
from nimbed.bench import PARTS, Texts, bench, save_plots
from nimbed.evaluate import Setting
from nimbed.quantization import QualityGate

if TYPE_CHECKING:
    import argparse

    from nimbed.bench import BenchReport, Contender

MIN_OVER_PEERS = 1.15
MIN_OVER_LANGCHAIN = 1.8
MIN_OVER_IPEX = 0.95
MAX_QUERY_MS = 4.0
MAX_QUERY_SHARE = 1 / 5
INT8_PEERS = ("sentence-transformers OpenVINO int8", "ONNX Runtime int8")
LANGCHAIN, IPEX, NIMBED = "HuggingFaceEmbeddings", "IPEX int8", "nimbed"
DOCUMENTS = ("documents", "natural lengths")
QUERIES = ("latency", "natural lengths, as they come, p50")


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
    """Our own as it chooses and in fp32, then the peers; transformers in fp32 is the reference."""
    options.work.mkdir(parents=True, exist_ok=True)
    folder, threads = Path(options.model), _machine.thread_plan().threads
    if options.shape:
        folder = _peer_models.seeded_model(options.shape, folder, options.work / options.shape)
    ready = str(_peer_models.with_peers_graphs(folder, options.work / f"{folder.name}-graphs", calibration[:300]))
    own = [Setting(model=str(folder), name=NIMBED), Setting(model=str(folder), precision="fp32", name="nimbed fp32")]
    if options.shape and _machine.cpu().fast_int8:  # random weights need not rank like anything
        lenient = QualityGate(mean_cosine=0, min_cosine=0, top10_agreement=0, rank_correlation=0)
        own[0] = Setting(model=str(quantize(folder, gate=lenient).folder), name=NIMBED)
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


def judge(report: BenchReport) -> dict[str, bool]:
    """The gates, by name; those of a part that was not run are left out."""
    gates = {}
    if (ours := report.find(*DOCUMENTS, NIMBED)) is not None:
        for least, peers in (
            (MIN_OVER_PEERS, INT8_PEERS),
            (MIN_OVER_LANGCHAIN, (LANGCHAIN,)),
            (MIN_OVER_IPEX, (IPEX,)),
        ):
            for peer in peers:
                if (theirs := report.find(*DOCUMENTS, peer)) is not None:
                    gates[f"documents a second: at least {least} times {peer}"] = ours.median >= least * theirs.median
    if (ours := report.find(*QUERIES, NIMBED)) is not None:
        others = {figure.contender: figure.median for figure in report.figures if (figure.part, figure.case) == QUERIES}
        best = min(value for label, value in others.items() if not label.startswith(NIMBED))
        gates[f"p50 of a query of varied length: at most {MAX_QUERY_MS} ms"] = ours.median <= MAX_QUERY_MS
        gates["- at most the best peer's"] = ours.median <= best
        gates[f"- at most {MAX_QUERY_SHARE} of {LANGCHAIN}'"] = ours.median <= MAX_QUERY_SHARE * others[LANGCHAIN]
    return gates


if __name__ == "__main__":
    sys.exit(main())
