"""The command `nimbed`: its arguments, and what it prints."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import nimbed
from nimbed._adapters.advice import advising_in, of_command
from nimbed._doctor import diagnosis, diagnosis_of_model
from nimbed._loading.artefact import verify_artefact
from nimbed._loading.describe import describe
from nimbed._loading.settings import Settings
from nimbed.backends import BUILT
from nimbed.cli import cache, embed, measure, models, serve
from nimbed.cli.arguments import TASK, source_arguments, source_of, to_path
from nimbed.errors import NimbedError

if TYPE_CHECKING:
    from collections.abc import Sequence


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
    except KeyboardInterrupt as err:
        if not str(err):  # of a build, it says how far that was
            raise
        print(f"nimbed: {err}".encode(errors="backslashreplace").decode(), file=sys.stderr)
        return 128 + signal.SIGINT
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nimbed", description=nimbed.__doc__.splitlines()[0] if nimbed.__doc__ else ""
    )
    parser.add_argument("--version", action="version", version=f"nimbed {nimbed.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _quantize_parser(commands)
    embed.add_commands(commands)
    serve.add_commands(commands)
    measure.add_commands(commands)
    verify = commands.add_parser("verify", help="check the sha256 of every file of an artefact against its manifest")
    verify.add_argument("artefacts", type=Path, nargs="+", metavar="ARTEFACT", help="the artefact's folder")
    verify.set_defaults(run=_verify)
    cache.add_commands(commands)
    models.add_command(commands)
    doctor = commands.add_parser("doctor", help="say what this machine can do and what nimbed would choose")
    doctor.add_argument(
        "model", nargs="?", help="also say a model's pooling, task and prompts, and where they are from"
    )
    doctor.add_argument("--task", help=TASK)
    source_arguments(doctor)
    doctor.set_defaults(run=_doctor)
    return parser


def _quantize_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("quantize", help="build an artefact from a model")
    parser.add_argument("model", help="hub id or model folder")
    parser.add_argument("-o", "--out", type=to_path, help="the artefact's folder (default: in nimbed's cache folder)")
    parser.add_argument("--backend", choices=("auto", *BUILT), default="auto")
    parser.add_argument("--precision", choices=("int8", "fp32"), default="int8")
    parser.add_argument(
        "--calibrate", metavar="FILE", help="your own texts: .jsonl, .csv, .tsv, .parquet or .txt, also .gz and .zst"
    )
    parser.add_argument("--text-field", default="text", help='the field or column with the text (default: "text")')
    parser.add_argument("--count", type=int, default=128, help="how many texts are used to calibrate (default: 128)")
    parser.add_argument("--seed", type=int, default=0, help="seed for choosing among the texts (default: 0)")
    parser.add_argument("--pooling", help="cls, lasttoken, max, mean or weightedmean (default: the model folder's)")
    parser.add_argument("--task", help=TASK)
    parser.add_argument("--force", action="store_true", help="publish the artefact even if it fails its quality gate")
    source_arguments(parser)
    parser.set_defaults(run=_quantize)


def _quantize(chosen: argparse.Namespace) -> int:
    artefact = nimbed.quantize(
        chosen.model,
        chosen.out,
        precision=chosen.precision,
        calibration=nimbed.Calibration(
            texts=chosen.calibrate, text_field=chosen.text_field, count=chosen.count, seed=chosen.seed
        ),
        spec=nimbed.SpecOverrides(pooling=chosen.pooling, task=chosen.task),
        source=source_of(chosen),
        force=chosen.force,
        backend=chosen.backend,
    )
    print(describe(artefact))
    return 0


def _verify(chosen: argparse.Namespace) -> int:
    for folder in chosen.artefacts:
        manifest = verify_artefact(folder).manifest
        print(f"{folder}: {len(manifest.files)} files as they were built, digest {manifest.digest}")
    return 0


def _doctor(chosen: argparse.Namespace) -> int:
    found = diagnosis()
    if chosen.model is not None:
        spec = nimbed.SpecOverrides(task=chosen.task)
        found |= diagnosis_of_model(Settings(model=chosen.model, spec=spec, source=source_of(chosen)))
    for name, value in found.items():
        print(f"{name:<16} {value}")
    return 0
