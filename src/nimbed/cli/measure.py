"""`nimbed evaluate`, `nimbed bench` and `nimbed tune`: how good, and how fast."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nimbed._text.text_files import texts_of
from nimbed.bench.outputs import check_outputs, write_files
from nimbed.cli.arguments import to_path

if TYPE_CHECKING:
    import argparse


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Those that measure."""
    _evaluate_parser(commands)
    _bench_parser(commands)
    tune = commands.add_parser("tune", help="find the batch shapes that suit this machine, in about a minute")
    tune.add_argument("model", help="hub id, model folder or artefact folder")
    tune.add_argument("--threads", type=int, help="threads of the engine (default: as `nimbed doctor` says)")
    tune.add_argument("--seconds", type=float, default=50.0, help="how long measuring may take (default: 50)")
    tune.set_defaults(run=_tune)


def _evaluate_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "evaluate",
        help="compare settings on retrieval, similarity and rerank sets",
        description="A SETTING is a hub id, model folder or artefact folder, optionally followed by @ and options: "
        "MODEL@backend=openvino,precision=int8,dim=128,max_length=256,name=small. The last one is the reference.",
    )
    parser.add_argument("settings", nargs="+", metavar="SETTING", help="the last one is the reference")
    parser.add_argument(
        "--retrieval", action="append", default=[], metavar="DIR", help="a retrieval set, ours or BEIR's"
    )
    parser.add_argument("--sts", action="append", default=[], metavar="FILE", help=".tsv: score, sentence1, sentence2")
    parser.add_argument(
        "--rerank", action="append", default=[], metavar="FILE", help=".jsonl: query, positive, negative"
    )
    parser.add_argument(
        "--mixed", action="store_true", help="must I re-index? queries of each setting, documents of the last"
    )
    parser.add_argument("--max-length", type=int, help="tokens that a text keeps, unless its setting says otherwise")
    parser.add_argument("--resamples", type=int, default=10_000, help="resamples of the bootstrap (default: 10000)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the bootstrap (default: 0)")
    parser.add_argument("--json", type=to_path, metavar="FILE", help="write all figures as JSON")
    parser.add_argument("--markdown", type=to_path, metavar="FILE", help="write the tables")
    parser.add_argument("--plot", type=to_path, metavar="FILE.png", help='draw them (pip install "nimbed[plot]")')
    parser.set_defaults(run=_evaluate)


def _bench_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "bench",
        help="measure speed on this machine: engines alternate, with shares of the roof",
        description="SETTINGs are those of `nimbed evaluate`; a single model stands for the engines that run it well "
        "here. The last one is the reference; a setting whose vectors disagree with it gets no figures.",
    )
    parser.add_argument("settings", nargs="+", metavar="SETTING", help="the last one is the reference")
    parser.add_argument(
        "--only", action="append", metavar="PART", help="latency, pauses, documents, batches, served, start or threads"
    )
    parser.add_argument(
        "--texts",
        type=to_path,
        metavar="FILE",
        help="your own documents: .jsonl, .csv, .tsv, .parquet or .txt, also .gz and .zst",
    )
    parser.add_argument("--text-field", default="text", help='the field or column with the text (default: "text")')
    parser.add_argument("--max-length", type=int, default=256, help="tokens that a text keeps (default: 256)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds that count, after one that does not (default: 5)")
    parser.add_argument("--quick", action="store_true", help="only two rounds, with fewer texts and cases")
    parser.add_argument("--json", type=to_path, metavar="FILE", help="write all figures as JSON")
    parser.add_argument("--markdown", type=to_path, metavar="FILE", help="write the tables")
    parser.add_argument("--plot", type=to_path, metavar="DIR", help='charts as PNG files (pip install "nimbed[plot]")')
    parser.set_defaults(run=_bench)


def _evaluate(chosen: argparse.Namespace) -> int:
    """Check the outputs first: nobody wants to learn after an hour that a folder is missing."""
    from nimbed.evaluate import evaluate, save_plot
    from nimbed.evaluate.plot import check_plot

    check_outputs(chosen.json, chosen.markdown, chosen.plot)
    if chosen.plot:
        check_plot(chosen.plot)
    report = evaluate(
        chosen.settings,
        retrieval=chosen.retrieval,
        sts=chosen.sts,
        rerank=chosen.rerank,
        mixed=chosen.mixed,
        max_length=chosen.max_length,
        resamples=chosen.resamples,
        seed=chosen.seed,
        progress=True,
    )
    print(report.to_markdown(), end="")
    write_files(report, chosen, save_plot)
    return 0


def _bench(chosen: argparse.Namespace) -> int:
    from nimbed.bench import PARTS, Texts, bench, save_plots
    from nimbed.evaluate.plot import need_matplotlib

    check_outputs(chosen.json, chosen.markdown, chosen.plot)
    if chosen.plot:
        need_matplotlib()
    texts = None
    if chosen.texts:
        texts = Texts.of(list(texts_of(chosen.texts, chosen.text_field)), str(chosen.texts))
    report = bench(
        chosen.settings,
        parts=chosen.only or tuple(PARTS),
        texts=texts,
        max_length=chosen.max_length,
        rounds=chosen.rounds,
        quick=chosen.quick,
        progress=True,
    )
    print(report.to_markdown(), end="")
    write_files(report, chosen, save_plots)
    return 0


def _tune(chosen: argparse.Namespace) -> int:
    from nimbed.tune import tune

    report = tune(chosen.model, threads=chosen.threads, seconds=chosen.seconds, progress=True)
    print(report.to_markdown(), end="")
    return 0
