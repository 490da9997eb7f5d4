"""Resident memory of a process that only embeds: after loading, after warming up, and over 100,000 texts.

The artefact is built first, then a fresh process opens it and streams real passages through ``Encoder.encode_iter``.
Nine passages of ten are cut to a random length, so that the run takes minutes and every bucket is used; ``--short``
cuts them all, to 10 to 100 characters, so that a million texts take no longer.
Exits with 1 where a gate fails.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import _common

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAX_RSS_MB = {"native": 150, "openvino": 400}
MAX_GROWTH = 0.10
REPORTS = 10


def main() -> int:
    parser = _common.parser(__doc__)
    _common.add_data(parser)
    parser.add_argument("--precision", default="int8", choices=["int8", "fp32"])
    parser.add_argument("--backend", default="auto", help="native or openvino")
    parser.add_argument("--texts", type=int, default=100_000, help="how many are embedded")
    parser.add_argument("--short", action="store_true", help="texts of 10 to 100 characters alone")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        embed_only(options.worker, stream(options.data, short=options.short), options.texts)
        return 0
    if options.quick:
        options.texts = 640
    return measure(options)


def measure(options: argparse.Namespace) -> int:
    """Build here, embed in a process that never saw the build."""
    import nimbed

    artefact = nimbed.quantize(options.model, precision=options.precision, backend=options.backend)
    engine = artefact.manifest.engine
    kind = {"texts": options.texts, "short": options.short}
    conditions = _common.conditions(engine=engine, precision=options.precision, **kind)
    arguments = ["--worker", str(artefact.folder), "--data", str(options.data), "--texts", str(options.texts)]
    command = [sys.executable, __file__, "--model", options.model, *arguments, *["--short"] * options.short]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    samples = json.loads(done.stdout)
    report(samples)
    name, record = "memory_short" if options.short else "memory", {"conditions": conditions, "samples": samples}
    return _common.finish(options, name, record, judge(samples, MAX_RSS_MB[engine]))


def embed_only(artefact: str, texts: Iterator[str], count: int) -> None:
    """The process that is measured; writes its samples to standard output."""
    from nimbed import Encoder

    started = time.perf_counter()
    with Encoder(artefact, truncate="silent") as encoder:
        samples = [sample("loaded", 0, started)]
        encoder.encode(list(itertools.islice(texts, 512)))
        samples.append(sample("warm", 0, started))
        done, step = 0, max(1, count // REPORTS)
        for block in encoder.encode_iter(itertools.islice(texts, count), progress=True):
            before, done = done, done + len(block)
            if before // step < done // step:
                samples.append(sample("embedding", done, started))
        samples[-1]["tokens"] = encoder.stats().tokens
    json.dump(samples, sys.stdout)


def sample(stage: str, texts: int, started: float) -> dict[str, Any]:
    """Resident and greatest resident megabytes (10^6 bytes) of this process."""
    import psutil

    return {
        "stage": stage,
        "texts": texts,
        "rss_mb": psutil.Process().memory_info().rss / 1e6,
        "peak_mb": _peak_mb(),
        "seconds": time.perf_counter() - started,
    }


def _peak_mb() -> float | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def stream(data: Path, *, short: bool) -> Iterator[str]:
    """Real passages without end, read from disk again each time round: the texts themselves take no memory."""
    lengths = random.Random(0)
    for number, text in enumerate(
        itertools.chain.from_iterable(_common.iter_passages(data) for _ in itertools.count())
    ):
        if short:
            yield text[: lengths.randint(10, 100)]
        else:
            yield text if number % 10 == 0 else text[: lengths.randint(10, 400)]


def judge(samples: list[dict[str, Any]], most_mb: int) -> dict[str, bool]:
    """The gates, by name."""
    peak = max(s["peak_mb"] or s["rss_mb"] for s in samples)
    embedding = [s["rss_mb"] for s in samples if s["stage"] == "embedding"]
    growth = embedding[-1] / embedding[0] - 1
    return {
        f"resident memory below {most_mb} MB at all times": peak < most_mb,
        f"growth from the first tenth of the texts to the last below {MAX_GROWTH:.0%}": growth < MAX_GROWTH,
    }


def report(samples: list[dict[str, Any]]) -> None:
    """The table, in Markdown."""
    print("\n| stage | texts | resident MB | greatest MB | seconds |\n|---|---|---|---|---|")
    for s in samples:
        peak = f"{s['peak_mb']:.0f}" if s["peak_mb"] else "-"
        print(f"| {s['stage']} | {s['texts']} | {s['rss_mb']:.0f} | {peak} | {s['seconds']:.0f} |")


if __name__ == "__main__":
    sys.exit(main())
