"""`nimbed embed`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import nimbed
from nimbed._text.rows import Columns
from nimbed._text.text_files import KINDS
from nimbed.backends import BACKENDS
from nimbed.bulk.job import Job
from nimbed.bulk.layout import NUMBERS
from nimbed.bulk.request import PART_ROWS, Request, find_places
from nimbed.cli.arguments import TASK, source_arguments, source_of, to_path
from nimbed.errors import InputError

if TYPE_CHECKING:
    import argparse


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """That one."""
    parser = commands.add_parser(
        "embed",
        help="embed the texts of files into a file of vectors, or go on with that",
        description="A run that was killed is gone on with by the same command; see docs/bulk.md.",
    )
    parser.add_argument(
        "input",
        nargs="+",
        metavar="IN",
        help=".jsonl, .csv, .tsv, .parquet or .txt, also .gz and .zst; patterns; - is standard input",
    )
    parser.add_argument("-o", "--out", type=to_path, required=True, help=".npy, .jsonl, .parquet or .lance")
    parser.add_argument("-m", "--model", required=True, help="hub id, model folder or artefact folder")
    _row_arguments(parser)
    _run_arguments(parser)
    _model_arguments(parser)
    source_arguments(parser)
    parser.set_defaults(run=_embed)


def _row_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--text-field",
        "--field",
        action="append",
        metavar="FIELD",
        help='the field that holds the text (default: "text"); repeat it to join several',
    )
    parser.add_argument("--template", help='how several fields are joined, such as "{title}: {text}"')
    parser.add_argument("--id-field", metavar="FIELD", help="the field that holds the id (default: rows are numbered)")
    parser.add_argument("--input-kind", choices=tuple(KINDS), help="in place of what the names say")
    parser.add_argument("--role", choices=("document", "query"), default="document", help="which prompt the texts get")
    parser.add_argument("--dtype", choices=tuple(NUMBERS), default="float32", help="of the vectors (default: float32)")
    parser.add_argument("--with-text", action="store_true", help="put the texts beside the vectors")


def _run_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--part-rows", type=int, default=PART_ROWS, help=f"rows of a part (default: {PART_ROWS})")
    parser.add_argument(
        "--on-error",
        choices=("raise", "skip"),
        default="raise",
        help="skip bad rows, and list them in OUT.skipped.jsonl (default: raise)",
    )
    parser.add_argument(
        "--processes",
        type=_processes,
        default="auto",
        metavar="N",
        help="processes that share the cores (default: auto, measured where there are many cores or several sockets)",
    )
    parser.add_argument(
        "--ray",
        nargs="?",
        const="",
        metavar="ADDRESS",
        help='on a Ray cluster, or on Ray on this machine (pip install "nimbed[ray]"); Parquet and JSON lines alone',
    )
    begin = parser.add_mutually_exclusive_group()
    begin.add_argument("--restart", action="store_true", help="throw away what a killed run has left")
    begin.add_argument("--update", action="store_true", help="keep the vectors of texts that the output had before")


def _model_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--backend", choices=("auto", *BACKENDS), default="auto")
    parser.add_argument("--precision", choices=("auto", "int8", "fp32", "bf16"), default="auto")
    parser.add_argument(
        "--truncate", choices=("warn", "error", "silent", "chunk"), default="warn", help="what is done to long texts"
    )
    parser.add_argument("--task", help=TASK)
    parser.add_argument("--threads", type=int, help="threads of the engine (default: as `nimbed doctor` says)")


def _processes(value: str) -> int | str:
    return int(value) if value.isdecimal() else value


# What Ray has no place for, and its value where it is not given.
_NOT_ON_RAY = {
    "update": False,
    "restart": False,
    "on_error": "raise",
    "processes": "auto",
    "part_rows": PART_ROWS,
    "threads": None,
    "input_kind": None,
}


def _columns_of(chosen: argparse.Namespace) -> Columns:
    return Columns(text=tuple(chosen.text_field or ("text",)), template=chosen.template, id=chosen.id_field)


def _embed_on_ray(chosen: argparse.Namespace) -> int:
    """Ray has a checkpoint of its own, and threads of an actor are those of its CPUs."""
    if given := [name for name, usual in _NOT_ON_RAY.items() if getattr(chosen, name) != usual]:
        raise InputError(f"--{given[0].replace('_', '-')} does not go together with --ray; leave one of them out")
    from nimbed import ray

    model = ray.Model(
        model=chosen.model,
        backend=chosen.backend,
        precision=chosen.precision,
        truncate="silent" if chosen.truncate == "warn" else chosen.truncate,
        spec=nimbed.SpecOverrides(task=chosen.task),
        source=source_of(chosen),
    )
    options = {"role": chosen.role, "dtype": chosen.dtype, "with_text": chosen.with_text}
    with ray.connect(chosen.ray or None):
        rows = ray.embed_files(chosen.input, chosen.out, model, columns=_columns_of(chosen), **options)
    print(f"{chosen.out}: {rows} rows")
    return 0


def _embed(chosen: argparse.Namespace) -> int:
    """The files are looked at before the model is opened. The output appears when it is complete."""
    if chosen.ray is not None:
        return _embed_on_ray(chosen)
    inputs, out = find_places(chosen.input, chosen.out, chosen.input_kind)
    request = Request(
        inputs=inputs,
        out=out,
        kind=chosen.input_kind,
        columns=_columns_of(chosen),
        role=chosen.role,
        dtype=chosen.dtype,
        with_text=chosen.with_text,
        part_rows=chosen.part_rows,
        on_error=chosen.on_error,
        processes=chosen.processes,
        begin="restart" if chosen.restart else "update" if chosen.update else "resume",
    )
    job = Job(request, progress=True)
    with nimbed.Encoder(
        chosen.model,
        backend=chosen.backend,
        precision=chosen.precision,
        # The summary counts what is cut; a warning for each block would number its texts from 0 on.
        truncate="silent" if chosen.truncate == "warn" else chosen.truncate,
        threads=chosen.threads,
        cache=None,
        spec=nimbed.SpecOverrides(task=chosen.task),
        source=source_of(chosen),
    ) as encoder:
        print(job.run(encoder).describe())
    return 0
