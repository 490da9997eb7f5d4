"""Texts of thousands of tokens: time beside torch's own attention, memory beside the weights, and queries meanwhile.

Networks have the widths of published ones and seeded weights, and few layers: times are compared layer for layer, and
the memory that a text takes does not depend on their number. Each text is embedded in a fresh process for its memory;
for its time, torch (fp32, ``scaled_dot_product_attention``) and nimbed (int8) take turns on the same ids with the same
threads. Exits with 1 where a gate fails.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import _common
import _family_models
import numpy as np
from platformdirs import user_cache_path

from nimbed import Encoder, _machine, quantize
from nimbed.quantization import Calibration, QualityGate

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Sequence

# Random weights need not rank like anything.
LENIENT = QualityGate(mean_cosine=0, min_cosine=0, top10_agreement=0, rank_correlation=0, kendall_tau=0)
MIN_COSINE = 0.9
PAUSE_S = 0.02  # between queries
QUERIES = 100


@dataclass(frozen=True, kw_only=True)
class Case:
    """A shape of `_family_models` and a length.

    Attributes:
        tokens: of the text.
        max_mb: that a text takes beside the weights.
        max_time: of torch's; None where torch is not asked.
    """

    shape: str
    tokens: int
    max_mb: float
    max_time: float | None = 1 / 3


CASES = {
    "bge-m3, 8192 tokens": Case(shape="bge-m3", tokens=8192, max_mb=200),
    "gte-modernbert, 8192 tokens": Case(shape="modernbert-base", tokens=8192, max_mb=200),
    "Qwen3-Embedding-0.6B, 32,768 tokens": Case(shape="qwen3-0.6b", tokens=32768, max_mb=400, max_time=None),
}


def main() -> int:
    parser = _common.parser(__doc__)
    _common.add_data(parser)
    parser.add_argument("--layers", type=int, default=3, help="of each network")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each that count")
    parser.add_argument("--work", type=Path, default=user_cache_path("nimbed") / "families", help="for the models")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(memory(Path(options.worker[0]), int(options.worker[1]))))
        return 0
    if options.quick:
        options.layers, options.rounds = 2, 1
    cases = {name: measure(name, case, options) for name, case in CASES.items()}
    conditions = _common.conditions(layers=options.layers, rounds=options.rounds)
    return _common.finish(options, "long_texts", {"conditions": conditions, "cases": cases}, judge(cases))


def measure(name: str, case: Case, options: Namespace) -> dict[str, Any]:
    """Figures of one case; a quick run's texts are an eighth as long."""
    tokens = case.tokens // 8 if options.quick else case.tokens
    options.work.mkdir(parents=True, exist_ok=True)
    target = options.work / f"{case.shape}-{options.layers}-long"
    folder = _family_models.write(case.shape, options.layers, Path(options.model), target, longest=case.tokens)
    artefact = quantize(folder, backend="native", gate=LENIENT, calibration=Calibration(count=24)).folder
    worker = [sys.executable, __file__, "--worker", str(artefact), str(tokens)]
    found: dict[str, Any] = {"tokens": tokens}
    found |= json.loads(subprocess.run(worker, check=True, stdout=subprocess.PIPE, text=True).stdout)
    if case.max_time is not None:
        found |= times(folder, artefact, tokens, options.rounds) | queries_meanwhile(artefact, tokens)
    print(f"{name}: {json.dumps(found)}", flush=True)
    return found


def text_of(tokens: int) -> str:
    """A text of that many tokens and a few more, which are cut off; common words are one token each."""
    words = ("the", "time", "of", "a", "day", "is", "not", "what", "it", "was")
    return " ".join(words[i % len(words)] for i in range(tokens))


def memory(artefact: Path, tokens: int) -> dict[str, float]:
    """Megabytes (10^6 bytes) that a text takes beside what a process has that embedded a short one."""
    import psutil

    with Encoder(artefact, max_length=tokens, truncate="silent", cache=None) as encoder:
        encoder.encode([text_of(64)] * 4)
        before, most, done = psutil.Process().memory_info().rss, 0, threading.Event()

        def watch() -> None:
            nonlocal most
            while not done.wait(0.01):
                most = max(most, psutil.Process().memory_info().rss)

        watcher = threading.Thread(target=watch)
        watcher.start()
        encoder.encode([text_of(tokens), text_of(tokens - 8)])
        done.set()
        watcher.join()
    return {"memory_mb": (most - before) / 1e6}


def times(folder: Path, artefact: Path, tokens: int, rounds: int) -> dict[str, Any]:
    """Seconds for a text, of each in turn."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    torch.set_num_threads(_machine.thread_plan().threads)
    network = AutoModel.from_pretrained(folder, attn_implementation="sdpa").eval()
    cut = AutoTokenizer.from_pretrained(folder)(text_of(tokens), truncation=True, max_length=tokens)
    ids = torch.tensor([cut["input_ids"]])
    seconds: dict[str, list[float]] = {"torch sdpa fp32": [], "nimbed int8": []}
    with Encoder(artefact, max_length=tokens, truncate="silent", cache=None) as encoder:
        for _ in range(rounds + 1):
            with torch.inference_mode():
                (hidden,), taken = timed(lambda: network(ids).last_hidden_state)
            assert hidden.shape[0] == tokens
            exact = (hidden[0] if folder.name.startswith("bge") else hidden.mean(0)).numpy()
            seconds["torch sdpa fp32"].append(taken)
            (vector,), taken = timed(lambda: encoder.encode([text_of(tokens)]))
            seconds["nimbed int8"].append(taken)
    cosine = float(exact @ vector / np.linalg.norm(exact) / np.linalg.norm(vector))
    assert cosine >= MIN_COSINE, f"nimbed computes something else than torch: their cosine is {cosine:.3f}"
    return {"seconds": {name: values[1:] for name, values in seconds.items()}, "cosine": cosine}


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """What the work gives, and its seconds."""
    started = time.perf_counter()
    result = work()
    return result, time.perf_counter() - started


def queries_meanwhile(artefact: Path, tokens: int) -> dict[str, Any]:
    """Milliseconds of short queries with pauses between them: alone, and beside long documents without end."""
    questions = _common.questions()
    with Encoder(artefact, max_length=tokens, truncate="silent", cache=None) as encoder:
        alone = latencies(encoder, questions)
        done = threading.Event()

        def embed() -> None:
            while not done.is_set():
                encoder.encode([text_of(tokens)])

        bulk = threading.Thread(target=embed)
        bulk.start()
        time.sleep(0.5)
        beside = latencies(encoder, questions)
        done.set()
        bulk.join()
    return {"query_ms_alone": alone, "query_ms_beside_long_documents": beside}


def latencies(encoder: Encoder, questions: Sequence[str]) -> dict[str, float]:
    """p50 and p99 in ms."""
    taken = []
    for i in range(QUERIES):
        time.sleep(PAUSE_S)
        taken.append(1000 * timed(lambda at=i: encoder.encode_query(questions[at % len(questions)]))[1])
    p50, p99 = np.percentile(taken, [50, 99])
    return {"p50": float(p50), "p99": float(p99)}


def judge(cases: dict[str, dict[str, Any]]) -> dict[str, bool]:
    """The gates, by name."""
    gates = {}
    for name, found in cases.items():
        case = CASES[name]
        gates[f"{name}: at most {case.max_mb:.0f} MB beside the weights"] = found["memory_mb"] <= case.max_mb
        if case.max_time is not None:
            theirs, ours = found["seconds"]["torch sdpa fp32"], found["seconds"]["nimbed int8"]
            gates[f"{name}: at most {case.max_time:.3g} of torch's time"] = (
                median(np.divide(ours, theirs)) <= case.max_time
            )
    return gates


if __name__ == "__main__":
    sys.exit(main())
