"""Resident memory of a process that only embeds: after loading, after warming up, and over 100,000 texts.

The artefact is built first, then a fresh process opens it and streams real passages through ``Encoder.encode_iter``.
Nine passages of ten are cut to a random length, so that the run takes minutes and every bucket is used; ``--short``
cuts them all, to 10 to 100 characters, so that a million texts take no longer. ``--shape``: a large network, seeded,
with a vocabulary of real size, over 1,000 passages; what the tokenizer takes is shown apart.
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
from pathlib import Path
from typing import TYPE_CHECKING, Any

import _common
from platformdirs import user_cache_path

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_RSS_MB = {"native": 150, "openvino": 400}
MAX_GROWTH = 0.10
REPORTS = 10
# Words, and the most that 1,000 texts leave resident beside the tokenizer.
SHAPES = {"bge-m3": (250_002, 450), "qwen3-0.6b": (151_669, 650)}
SHAPES_TEXTS = 1000


def main() -> int:
    parser = _common.parser(__doc__)
    _common.add_data(parser)
    parser.add_argument("--precision", default="int8", choices=["int8", "fp32"])
    parser.add_argument("--backend", default="auto", help="native or openvino")
    parser.add_argument("--texts", type=int, default=100_000, help="how many are embedded")
    parser.add_argument("--short", action="store_true", help="texts of 10 to 100 characters alone")
    parser.add_argument("--shape", choices=list(SHAPES), help="a seeded network of this shape in the model's place")
    parser.add_argument("--work", type=Path, default=user_cache_path("nimbed") / "families", help="for that network")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        texts = _common.iter_passages(options.data) if options.shape else stream(options.data, short=options.short)
        embed_only(options.worker, texts, options.texts)
        return 0
    if options.quick:
        options.texts = 640
    return measure_shape(options) if options.shape else measure(options)


def measure(options: argparse.Namespace) -> int:
    """Build here, embed in a process that never saw the build."""
    import nimbed

    artefact = nimbed.quantize(options.model, precision=options.precision, backend=options.backend)
    engine = artefact.manifest.engine
    kind = {"texts": options.texts, "short": options.short}
    conditions = _common.conditions(engine=engine, precision=options.precision, **kind)
    arguments = ["--texts", str(options.texts), *["--short"] * options.short]
    samples = in_a_fresh_process(options, artefact.folder, arguments)
    report(samples)
    name, record = "memory_short" if options.short else "memory", {"conditions": conditions, "samples": samples}
    return _common.finish(options, name, record, judge(samples, MAX_RSS_MB[engine]))


def measure_shape(options: argparse.Namespace) -> int:
    """The same of a seeded network; a quick run's has two layers."""
    import _family_models

    from nimbed.quantization import Calibration, QualityGate, quantize

    words, most_mb = SHAPES[options.shape]
    layers = 2 if options.quick else _family_models.LAYERS[options.shape]
    options.work.mkdir(parents=True, exist_ok=True)
    target = options.work / f"{options.shape}-{layers}-{words}-words"
    folder = _family_models.write(options.shape, layers, Path(options.model), target, vocabulary=words)
    lenient = QualityGate(mean_cosine=0, min_cosine=0, top10_agreement=0, rank_correlation=0)
    artefact = quantize(folder, backend="native", gate=lenient, calibration=Calibration(count=24))
    samples = in_a_fresh_process(options, artefact.folder, ["--shape", options.shape, "--texts", str(SHAPES_TEXTS)])
    report(samples)
    beside = samples[-1]["rss_mb"] - samples[-1]["tokenizer_mb"]
    gate = f"{options.shape}, after {SHAPES_TEXTS} texts: below {most_mb} MB resident beside the tokenizer"
    conditions = _common.conditions(engine="native", precision="int8", layers=layers, vocabulary=words)
    record = {"conditions": conditions, "samples": samples, "beside_the_tokenizer_mb": beside}
    return _common.finish(options, f"memory-{options.shape}", record, {gate: beside < most_mb})


def in_a_fresh_process(options: argparse.Namespace, artefact: Path, arguments: list[str]) -> list[dict[str, Any]]:
    """Its samples."""
    command = [sys.executable, __file__, "--worker", str(artefact), "--data", str(options.data), *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    samples: list[dict[str, Any]] = json.loads(done.stdout)
    return samples


def embed_only(artefact: str, texts: Iterator[str], count: int) -> None:
    """The process that is measured; writes its samples to standard output."""
    from nimbed import Encoder

    started, tokenizer = time.perf_counter(), tokenizer_mb(Path(artefact) / "tokenizer.json")
    with Encoder(artefact, truncate="silent") as encoder:
        samples = [sample("loaded", 0, started)]
        encoder.encode(list(itertools.islice(texts, 512)))
        samples.append(sample("warm", 0, started))
        done, step = 0, max(1, count // REPORTS)
        for block in encoder.encode_iter(itertools.islice(texts, count), progress=True):
            before, done = done, done + len(block)
            if before // step < done // step:
                samples.append(sample("embedding", done, started))
        samples[-1] |= {"tokens": encoder.stats().tokens, "tokenizer_mb": tokenizer}
    json.dump(samples, sys.stdout)


def tokenizer_mb(file: Path) -> float:
    """Resident megabytes that it takes, in a process of its own: here it would leave holes for the encoder's."""
    code = (
        "import sys, psutil; from tokenizers import Tokenizer; resident = lambda: psutil.Process().memory_info().rss; "
        "before = resident(); tokenizer = Tokenizer.from_file(sys.argv[1]); print((resident() - before) / 1e6)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(file)], check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout)


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


def stream(data: Path, *, short: bool, longest: int = 100) -> Iterator[str]:
    """Real passages without end, read from disk again each time round: the texts themselves take no memory.

    Short ones have 10 to ``longest`` characters.
    """
    lengths = random.Random(0)
    for number, text in enumerate(
        itertools.chain.from_iterable(_common.iter_passages(data) for _ in itertools.count())
    ):
        if short:
            yield text[: lengths.randint(10, longest)]
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
