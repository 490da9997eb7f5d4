"""Bulk jobs: what a job costs beside ``encode_iter``, its memory, how it goes on after kill -9, and updates.

Parts (``--only``; the figures of the others are kept): ``throughput`` (encode_iter, JSON lines to .npy, and Parquet to
Parquet alternate over the same texts), ``memory`` (a fresh process over 1,000,000 short rows), ``resume`` (a job of
10,000 parts), ``update`` (1 % of 100,000 distinct passages changed), ``kills`` (30 of a job of 50,000 rows) and
``growth`` (10,000,000 rows with the fake engine). Exits with 1 where a gate fails. It writes and removes some gigabytes
in ``--work``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import _common
from memory import sample, stream

from nimbed import Encoder
from nimbed.bulk import embed_files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

PARTS = ("throughput", "memory", "resume", "update", "kills", "growth")
FAKE = {"backend": "fake", "cache": None, "dim": 8}
MAX_RSS_MB = 400
MAX_GROWTH = 0.10
SLICES = 20


def main() -> int:
    parser = _common.parser(__doc__)
    _common.add_data(parser)
    parser.add_argument("--only", action="append", choices=PARTS, help="a part (default: all)")
    parser.add_argument("--rows", type=int, help="rows of the parts throughput and memory (default: 1,000,000)")
    parser.add_argument("--characters", type=int, default=100, help="of the longest of those rows (default: 100)")
    parser.add_argument("--work", type=Path, help="folder for inputs and outputs (default: a temporary one)")
    parser.add_argument("--worker", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        embed_only(*options.worker)
        return 0
    options.rows = options.rows or (3_000 if options.quick else 1_000_000)
    conditions = _common.conditions()
    record: dict[str, Any] = {"conditions": conditions}
    with tempfile.TemporaryDirectory(dir=options.work) as folder:
        for name in PARTS:
            if name in (options.only or PARTS):
                record[name] = measured(name, options, Path(folder), conditions)
            elif kept := _common.earlier(options, "bulk", name):
                record[name] = kept
    gates = {gate: held for name in PARTS for gate, held in record.get(name, {}).get("gates", {}).items()}
    return _common.finish(options, "bulk", record, gates)


def measured(name: str, options: argparse.Namespace, folder: Path, conditions: dict[str, Any]) -> dict[str, Any]:
    """One part: its figures and gates, and when it was measured."""
    print(f"{name} ...", file=sys.stderr)
    gates: dict[str, bool] = {}
    found = globals()[name](options, folder, gates)
    print(f"\n{name}: {json.dumps(found)}")
    kept = {key: conditions[key] for key in ("date", "cpu", "instruction_sets", "threads", "cpu_busy_before_percent")}
    return {"conditions": kept, **found, "gates": gates}


def throughput(options: argparse.Namespace, folder: Path, gates: dict[str, bool]) -> dict[str, Any]:
    """Seconds of each way over all rows, slice by slice in turn, so that drift of the machine falls on all alike."""
    texts = stream(options.data, short=True, longest=options.characters)
    seconds: dict[str, list[float]] = {"encode_iter": [], "jsonl to npy": [], "parquet to parquet": []}
    with Encoder(options.model, cache=None, truncate="silent") as encoder:
        encoder.encode(list(itertools.islice(texts, 512)))
        for number in range(SLICES):
            some = list(itertools.islice(texts, options.rows // SLICES))
            write_jsonl(folder / "in.jsonl", some)
            write_parquet(folder / "in.parquet", some)
            ways: dict[str, Callable[[], object]] = {
                "encode_iter": lambda some=some: [len(block) for block in encoder.encode_iter(some)],
                "jsonl to npy": lambda: embed_files(encoder, folder / "in.jsonl", folder / "o.npy"),
                "parquet to parquet": lambda: embed_files(encoder, folder / "in.parquet", folder / "o.parquet"),
            }
            for name in sorted(ways, reverse=bool(number % 2)):
                seconds[name].append(_common.seconds(ways[name]))
            shutil.rmtree(folder / "o.parquet")
    share = {name: sum(seconds["encode_iter"]) / sum(taken) for name, taken in seconds.items()}
    gates["a job has 95 % of encode_iter's throughput"] = share["jsonl to npy"] >= 0.95
    gates["Parquet in and out adds 5 % at most"] = share["parquet to parquet"] >= 0.95
    rate = options.rows / sum(seconds["encode_iter"])
    size = {"rows": options.rows, "characters": options.characters}
    return {**size, "rows_per_s": rate, "share_of_encode_iter": share, "seconds": seconds}


def memory(options: argparse.Namespace, folder: Path, gates: dict[str, bool]) -> dict[str, Any]:
    """Resident memory of a process that only runs a job."""
    texts = stream(options.data, short=True, longest=options.characters)
    write_jsonl(folder / "in.jsonl", itertools.islice(texts, options.rows))
    found: dict[str, Any] = {"rows": options.rows, "characters": options.characters}
    for suffix in ("npy", "parquet"):
        out = folder / f"memory.{suffix}"
        arguments = [options.model, str(folder / "in.jsonl"), str(out), str(options.rows)]
        command = [sys.executable, __file__, "--worker", *arguments]
        samples = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        peak = max(one["peak_mb"] or one["rss_mb"] for one in samples)
        growth = samples[-1]["rss_mb"] / samples[0]["rss_mb"] - 1
        gates[f"{suffix}: resident memory below {MAX_RSS_MB} MB at all times"] = peak < MAX_RSS_MB
        gates[f"{suffix}: growth from the first tenth to the last below {MAX_GROWTH:.0%}"] = growth < MAX_GROWTH
        found[suffix] = {"peak_mb": peak, "growth": growth, "samples": samples}
    return found


def embed_only(model: str, source: str, out: str, rows: str) -> None:
    """The process that is measured; writes its samples to standard output."""
    started, samples, done, step = time.perf_counter(), [], [0], max(1, int(rows) // 10)
    encode = Encoder.encode_iter

    def sampled(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401
        for block in encode(*arguments, **named):
            before, done[0] = done[0], done[0] + len(block)
            if before // step < done[0] // step:
                samples.append(sample("embedding", done[0], started))
            yield block

    Encoder.encode_iter = sampled  # type: ignore[assignment]
    with Encoder(model, cache=None, truncate="silent") as encoder:
        embed_files(encoder, source, out)
    json.dump(samples, sys.stdout)


def resume(options: argparse.Namespace, folder: Path, gates: dict[str, bool]) -> dict[str, Any]:
    """Seconds from the call to the first text, in a job of which one part of many is missing."""
    parts = 200 if options.quick else 10_000
    write_jsonl(folder / "resume.jsonl", (f"passage {n}" for n in range(parts * 10)))
    with Encoder("any", **FAKE) as encoder:
        begin_only(encoder, folder / "resume.jsonl", folder / "resume.npy", 10)
        seconds = begin_only(encoder, folder / "resume.jsonl", folder / "resume.npy", 10, damage=parts // 2)
    gates["the start of a resumed run takes 2 s at most"] = seconds <= 2
    return {"parts": parts, "seconds": seconds}


def begin_only(encoder: Encoder, source: Path, out: Path, part_rows: int, damage: int | None = None) -> float:
    """Seconds until the first text is asked for, in a run that dies before its output is made."""
    from nimbed.bulk.npy_format import NpyFormat

    if damage is not None:
        (out.with_name(f"{out.name}.partial") / f"part-{damage:06d}.rows").unlink()
    started, first, encode, join = time.perf_counter(), [], Encoder.encode_iter, NpyFormat.join

    def timed(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401
        first.append(time.perf_counter() - started)
        return encode(*arguments, **named)

    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    Encoder.encode_iter, NpyFormat.join = timed, dies  # type: ignore[assignment, method-assign]
    try:
        embed_files(encoder, source, out, part_rows=part_rows)
    except KeyboardInterrupt:
        return first[0]
    finally:
        Encoder.encode_iter, NpyFormat.join = encode, join  # type: ignore[method-assign]
    raise AssertionError


def update(options: argparse.Namespace, folder: Path, gates: dict[str, bool]) -> dict[str, Any]:
    """Seconds of a full run and of an update, over passages of which none is like another."""
    count = 1_000 if options.quick else 100_000
    whole = itertools.chain.from_iterable(_common.iter_passages(options.data) for _ in itertools.count())
    texts = [f"{n}: {text}" for n, text in zip(range(count), whole, strict=False)]
    found: dict[str, Any] = {"rows": count}
    with Encoder(options.model, cache=None, truncate="silent") as encoder:
        encoder.encode(texts[:512])
        for suffix in ("npy", "parquet"):
            seconds = []
            for number in range(2):
                some = [f"changed, {t}" if number and n % 100 == 0 else t for n, t in enumerate(texts)]
                write_jsonl(folder / "update.jsonl", some)
                seconds.append(
                    _common.seconds(
                        lambda: embed_files(encoder, folder / "update.jsonl", folder / f"u.{suffix}", begin="update")  # noqa: B023
                    )
                )
            gates[f"{suffix}: an update of 1 % takes 3 % of a full run at most"] = seconds[1] <= 0.03 * seconds[0]
            found[suffix] = {"full_s": seconds[0], "update_s": seconds[1], "share": seconds[1] / seconds[0]}
    return found


KILLED = """
import sys
from nimbed import Encoder
from nimbed.bulk import embed_files
with Encoder(sys.argv[1], cache=None, truncate="silent") as encoder:
    embed_files(encoder, sys.argv[2], sys.argv[3], part_rows=int(sys.argv[4]))
"""


def kills(options: argparse.Namespace, folder: Path, gates: dict[str, bool]) -> dict[str, Any]:
    """A job that is killed again and again, beside one that is not."""
    rows, wanted = (2_000, 3) if options.quick else (50_000, 30)
    write_jsonl(folder / "kills.jsonl", itertools.islice(stream(options.data, short=True), rows))
    arguments = [options.model, str(folder / "kills.jsonl")]
    part_rows = str(rows // 100)
    calm = folder / "calm.npy"
    seconds = _common.seconds(
        lambda: subprocess.run([sys.executable, "-c", KILLED, *arguments, str(calm), part_rows], check=True)
    )
    draw, killed = random.Random(0), 0
    while killed < wanted:
        child = subprocess.Popen([sys.executable, "-c", KILLED, *arguments, str(folder / "killed.npy"), part_rows])
        try:
            child.wait(draw.random() * 2 * seconds / wanted + 0.5)
            break
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGKILL)
            child.wait()
            killed += 1
    subprocess.run([sys.executable, "-c", KILLED, *arguments, str(folder / "killed.npy"), part_rows], check=True)
    same = (folder / "killed.npy").read_bytes() == calm.read_bytes()
    gates[f"after {killed} kills the output has the bytes of an undisturbed run's"] = same
    return {"rows": rows, "kills": killed, "same_bytes": same}


def growth(options: argparse.Namespace, folder: Path, gates: dict[str, bool]) -> dict[str, Any]:
    """Manifest, memory and start of a job of many rows, with the fake engine."""
    rows = 20_000 if options.quick else 10_000_000
    write_jsonl(folder / "growth.jsonl", (f"p{n}" for n in range(rows)))
    before = sample("before", 0, time.perf_counter())["rss_mb"]
    with Encoder("any", **FAKE) as encoder:
        begin_only(encoder, folder / "growth.jsonl", folder / "growth.npy", 1_000)
        records = folder / "growth.npy.partial" / "_nimbed"
        sizes = {name: (records / name).stat().st_size for name in ("job.json", "parts.jsonl")}
        start = begin_only(encoder, folder / "growth.jsonl", folder / "growth.npy", 1_000, damage=rows // 2_000)
    grown = sample("after", rows, time.perf_counter())["rss_mb"] - before
    parts = rows // 1_000
    gates["the manifest takes less than 1 KB a part"] = sum(sizes.values()) < 1_000 * parts
    gates["memory grows by less than 200 MB"] = grown < 200
    return {"rows": rows, "parts": parts, "bytes": sizes, "grown_mb": grown, "start_s": start}


def write_jsonl(path: Path, texts: Iterable[str]) -> None:
    """Rows with a text alone."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps({"text": text}) + "\n" for text in texts)


def write_parquet(path: Path, texts: list[str]) -> None:
    """The same."""
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.table({"text": texts}), path, row_group_size=50_000)


if __name__ == "__main__":
    sys.exit(main())
