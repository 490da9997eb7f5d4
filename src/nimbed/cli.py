"""The command `nimbed`: its arguments, and what it prints."""

from __future__ import annotations

import argparse
import logging
import sys
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm.auto import tqdm

import nimbed
from nimbed._adapters.advice import advising_in, of_command
from nimbed._doctor import diagnosis
from nimbed._files.npy import write_rows
from nimbed._files.user_paths import expanded
from nimbed._loading.artefact import verify_artefact
from nimbed._loading.describe import describe
from nimbed._text.text_files import read_lines
from nimbed.backends import BACKENDS, BUILT
from nimbed.bench.outputs import check_outputs, write_files
from nimbed.errors import InputError, NimbedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. An error that nimbed raises on purpose becomes one line and exit status 1."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    chosen = _parser().parse_args(arguments)
    try:
        with advising_in(of_command(vars(chosen))):
            status: int = chosen.run(chosen)
    except NimbedError as err:
        print(f"nimbed: {err}".encode(errors="backslashreplace").decode(), file=sys.stderr)
        return 1
    return status


def _path(text: str) -> Path:
    """An argument that names a file or folder: a path that can exist on this system."""
    try:
        return expanded(text)
    except InputError as err:
        raise argparse.ArgumentTypeError(str(err)) from err


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nimbed", description=nimbed.__doc__.splitlines()[0] if nimbed.__doc__ else ""
    )
    parser.add_argument("--version", action="version", version=f"nimbed {nimbed.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _quantize_parser(commands)
    _embed_parser(commands)
    _evaluate_parser(commands)
    _bench_parser(commands)
    tune = commands.add_parser("tune", help="find the batch shapes that suit this machine, in about a minute")
    tune.add_argument("model", help="hub id, model folder or artefact folder")
    tune.add_argument("--threads", type=int, help="threads of the engine (default: as `nimbed doctor` says)")
    tune.add_argument("--seconds", type=float, default=50.0, help="how long measuring may take (default: 50)")
    tune.set_defaults(run=_tune)
    verify = commands.add_parser("verify", help="check the sha256 of every file of an artefact against its manifest")
    verify.add_argument("artefacts", type=Path, nargs="+", metavar="ARTEFACT", help="the artefact's folder")
    verify.set_defaults(run=_verify)
    doctor = commands.add_parser("doctor", help="say what this machine can do and what nimbed would choose")
    doctor.set_defaults(run=_doctor)
    return parser


def _quantize_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("quantize", help="build an artefact from a model")
    parser.add_argument("model", help="hub id or model folder")
    parser.add_argument("-o", "--out", type=_path, help="the artefact's folder (default: in nimbed's cache folder)")
    parser.add_argument("--backend", choices=("auto", *BUILT), default="auto")
    parser.add_argument("--precision", choices=("int8", "fp32"), default="int8")
    parser.add_argument(
        "--calibrate", metavar="FILE", help="your own texts: .jsonl, .csv, .tsv, .parquet or .txt, also .gz"
    )
    parser.add_argument("--text-field", default="text", help='the field or column with the text (default: "text")')
    parser.add_argument("--count", type=int, default=128, help="how many texts are used to calibrate (default: 128)")
    parser.add_argument("--seed", type=int, default=0, help="seed for choosing among the texts (default: 0)")
    parser.add_argument("--pooling", help="cls, lasttoken, max, mean or weightedmean (default: the model folder's)")
    parser.add_argument("--force", action="store_true", help="publish the artefact even if it fails its quality gate")
    _source_arguments(parser)
    parser.set_defaults(run=_quantize)


def _embed_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("embed", help="embed the texts of a file into a .npy file")
    parser.add_argument("input", type=_path, help=".jsonl, .csv, .tsv, .parquet or .txt, also .gz")
    parser.add_argument("-o", "--out", type=_path, required=True, help="the .npy file to write: float32 [texts, dim]")
    parser.add_argument("-m", "--model", required=True, help="hub id, model folder or artefact folder")
    parser.add_argument("--field", default="text", help='the field that holds the text (default: "text")')
    parser.add_argument("--role", choices=("document", "query"), default="document", help="which prompt the texts get")
    parser.add_argument("--backend", choices=("auto", *BACKENDS), default="auto")
    parser.add_argument("--precision", choices=("auto", "int8", "fp32", "bf16"), default="auto")
    parser.add_argument(
        "--truncate", choices=("warn", "error", "silent", "chunk"), default="warn", help="what is done to long texts"
    )
    parser.add_argument("--threads", type=int, help="threads of the engine (default: as `nimbed doctor` says)")
    _source_arguments(parser)
    parser.set_defaults(run=_embed)


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
    parser.add_argument("--json", type=_path, metavar="FILE", help="write all figures as JSON")
    parser.add_argument("--markdown", type=_path, metavar="FILE", help="write the tables")
    parser.add_argument("--plot", type=_path, metavar="FILE.png", help='draw the figures (pip install "nimbed[plot]")')
    parser.set_defaults(run=_evaluate)


def _bench_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "bench",
        help="measure speed on this machine: engines alternate, with shares of the roof",
        description="SETTINGs are those of `nimbed evaluate`; a single model stands for every engine that can run it "
        "here. The last one is the reference; a setting whose vectors disagree with it gets no figures.",
    )
    parser.add_argument("settings", nargs="+", metavar="SETTING", help="the last one is the reference")
    parser.add_argument(
        "--only", action="append", metavar="PART", help="latency, documents, batches, served, start or threads"
    )
    parser.add_argument(
        "--texts", type=_path, metavar="FILE", help="your own documents: .jsonl, .csv, .tsv, .parquet or .txt, also .gz"
    )
    parser.add_argument("--text-field", default="text", help='the field or column with the text (default: "text")')
    parser.add_argument("--max-length", type=int, default=256, help="tokens that a text keeps (default: 256)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds that count, after one that does not (default: 5)")
    parser.add_argument("--quick", action="store_true", help="only two rounds, with fewer texts and cases")
    parser.add_argument("--json", type=_path, metavar="FILE", help="write all figures as JSON")
    parser.add_argument("--markdown", type=_path, metavar="FILE", help="write the tables")
    parser.add_argument("--plot", type=_path, metavar="DIR", help='charts as PNG files (pip install "nimbed[plot]")')
    parser.set_defaults(run=_bench)


def _source_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--revision", help="branch, tag or commit of a hub model")
    parser.add_argument("--file", help="the network within the model folder, such as openvino/openvino_model.xml")
    parser.add_argument("--offline", action="store_true", help="never touch the network")
    parser.add_argument("--allow-code", action="store_true", help="run TorchScript from another machine (ipex)")


def _source(chosen: argparse.Namespace) -> nimbed.Source:
    return nimbed.Source(
        revision=chosen.revision,
        local_files_only=chosen.offline,
        file=chosen.file,
        allow_code=chosen.allow_code,
    )


def _quantize(chosen: argparse.Namespace) -> int:
    artefact = nimbed.quantize(
        chosen.model,
        chosen.out,
        precision=chosen.precision,
        calibration=nimbed.Calibration(
            texts=chosen.calibrate, text_field=chosen.text_field, count=chosen.count, seed=chosen.seed
        ),
        spec=nimbed.SpecOverrides(pooling=chosen.pooling),
        source=_source(chosen),
        force=chosen.force,
        backend=chosen.backend,
    )
    print(describe(artefact))
    return 0


def _embed(chosen: argparse.Namespace) -> int:
    """Stream the texts through the encoder. The output file appears when it is complete."""
    check_outputs(chosen.out)
    if chosen.out.is_file() and chosen.input.exists() and chosen.out.samefile(chosen.input):
        raise InputError(f"{chosen.out} is the file that is read; the vectors need another name: -o OTHER.npy")
    # Read the file once before, so that a fault in its last line is found at once. A pipe can be read only once.
    rows = None if _is_pipe(chosen.input) else sum(1 for _ in read_lines(chosen.input, chosen.field))
    with nimbed.Encoder(
        chosen.model,
        backend=chosen.backend,
        precision=chosen.precision,
        truncate=chosen.truncate,
        threads=chosen.threads,
        source=_source(chosen),
    ) as encoder:
        texts = islice(read_lines(chosen.input, chosen.field), rows)  # lines added since then are left out
        blocks = encoder.encode_iter(_counted(texts, rows, chosen.input), role=chosen.role)
        written = write_rows(chosen.out, blocks, encoder.dim)
        print(f"{chosen.out}: {written} x {encoder.dim}, {encoder.stats().truncated} texts truncated")
    return 0


def _is_pipe(path: Path) -> bool:
    return path.exists() and not path.is_file()


def _counted(texts: Iterable[str], rows: int | None, path: Path) -> Iterator[str]:
    """The texts, with a progress bar; there must be as many as were counted."""
    read = 0
    for read, text in enumerate(tqdm(texts, total=rows, unit="text"), 1):  # noqa: B007 (used behind the loop)
        yield text
    if rows is not None and read != rows:
        raise InputError(f"{path} had {rows} texts at first, then {read}: it was changed while it was read; run again")


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
        texts = Texts.of(list(read_lines(chosen.texts, chosen.text_field)), str(chosen.texts))
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


def _verify(chosen: argparse.Namespace) -> int:
    for folder in chosen.artefacts:
        manifest = verify_artefact(folder).manifest
        print(f"{folder}: {len(manifest.files)} files as they were built, digest {manifest.digest}")
    return 0


def _doctor(chosen: argparse.Namespace) -> int:  # noqa: ARG001 (it has no arguments)
    for name, value in diagnosis().items():
        print(f"{name:<16} {value}")
    return 0
