"""Retrieval (SciFact) and similarity (STS-B dev) in int8 beside fp32, and fp32 beside torch.

Figures are those of nimbed.evaluate: nDCG@10 as trec_eval computes it, Spearman's rank correlation. Exits with 1 where
a gate fails.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import _common
import numpy as np

from nimbed import Encoder
from nimbed.evaluate import RetrievalSet as Retrieval
from nimbed.evaluate import load_retrieval, load_sts
from nimbed.evaluate.bootstrap import Spearman, value
from nimbed.evaluate.metrics import retrieval_scores

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy.typing as npt

    from nimbed.evaluate import StsSet

ENGINE = "native"
MAX_LENGTH = 256
MAX_DIFFERENCE = 0.003
MIN_COSINE = 0.99999
PUBLISHED_NDCG = 0.6451
QUICK_DOCS = 400  # the judged ones first
AGAINST_TORCH, QUICK_AGAINST_TORCH = 500, 40  # texts, half passages and half sentences


@dataclass(frozen=True, kw_only=True)
class Scores:
    """One engine's quality: nDCG@10 of each query; ``seconds`` for the whole of it."""

    by_query: npt.NDArray[np.float64]
    spearman: float
    truncated: int
    seconds: float

    @property
    def ndcg_10(self) -> float:
        """Mean over the queries."""
        return float(self.by_query.mean())

    def record(self) -> dict[str, float]:
        """For the results' file."""
        values = {name: value for name, value in vars(self).items() if name != "by_query"}
        return {"ndcg_10": self.ndcg_10, **values}


def main() -> int:
    parser = _common.parser(__doc__)
    _common.add_data(parser)
    parser.add_argument("--torch", action="store_true", help="score torch on both sets as well (slow)")
    options = parser.parse_args()
    retrieval = load_retrieval(options.data / "scifact")
    retrieval = fewer(retrieval, QUICK_DOCS) if options.quick else retrieval
    pairs = load_sts(options.data / "stsb_en_dev" / "pairs.tsv.gz")
    conditions = _common.conditions(scifact_docs=len(retrieval.docs), stsb_pairs=len(pairs.gold), max_length=MAX_LENGTH)
    engines = [("int8", ENGINE), ("fp32", ENGINE), *([("fp32", "torch")] if options.torch else [])]
    scores = {f"{b} {p}": measure(options.model, p, b, retrieval, pairs) for p, b in engines}
    sample = real_texts(options.data, pairs, QUICK_AGAINST_TORCH if options.quick else AGAINST_TORCH)
    worst, mean = against_torch(options.model, sample)
    report(scores)
    difference, error = paired(scores[f"{ENGINE} int8"].by_query, scores[f"{ENGINE} fp32"].by_query)
    print(f"\nSciFact, int8 less fp32: {difference:+.4f}, standard error {error:.4f} (paired, by query)")
    print(f"{ENGINE} fp32 against torch, {len(sample)} texts: worst cosine {worst:.7f}, mean {mean:.7f}")
    record = {
        "conditions": conditions,
        "scores": {name: score.record() for name, score in scores.items()},
        "scifact_int8_less_fp32": {"difference": difference, "standard_error": error},
        "fp32_against_torch": {"texts": len(sample), "worst_cosine": worst, "mean_cosine": mean},
    }
    return _common.finish(options, "quality", record, judge(scores, worst))


def measure(model: str, precision: str, backend: str, retrieval: Retrieval, pairs: StsSet) -> Scores:
    """Both sets with one engine."""
    print(f"{backend} {precision}", file=sys.stderr)
    started = time.perf_counter()
    with Encoder(model, backend=backend, precision=precision, max_length=MAX_LENGTH, truncate="silent") as encoder:
        docs = embed(encoder, list(retrieval.docs.values()))
        queries = encoder.encode(list(retrieval.queries.values()), role="query")
        left, right = embed(encoder, list(pairs.first)), embed(encoder, list(pairs.second))
        truncated = encoder.stats().truncated
    return Scores(
        by_query=ndcg_at_10(docs, queries, retrieval),
        spearman=value(Spearman((left * right).sum(axis=1), pairs.gold), len(pairs.gold)),
        truncated=truncated,
        seconds=time.perf_counter() - started,
    )


def embed(encoder: Encoder, texts: list[str]) -> npt.NDArray[np.float32]:
    """float32 ``[n, dim]``, with a progress bar."""
    return np.concatenate(list(encoder.encode_iter(texts, progress=True)))


def ndcg_at_10(
    docs: npt.NDArray[np.float32], queries: npt.NDArray[np.float32], retrieval: Retrieval
) -> npt.NDArray[np.float64]:
    """Of each query that has a relevant document; vectors ``[n, dim]`` of length 1."""
    return retrieval_scores(docs, queries, retrieval)["nDCG@10"]


def paired(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Mean of the differences by query, and its standard error."""
    differences = first - second
    return float(differences.mean()), float(differences.std(ddof=1) / np.sqrt(len(differences)))


def real_texts(data: Path, pairs: StsSet, count: int) -> list[str]:
    """Half passages, half sentences."""
    return [*_common.passages(data, count // 2), *_common.spread(pairs.first, count // 2)]


def against_torch(model: str, texts: list[str]) -> tuple[float, float]:
    """Worst and mean cosine, the engine's fp32 to torch."""
    vectors = []
    for backend in (ENGINE, "torch"):
        with Encoder(model, backend=backend, precision="fp32", truncate="silent") as encoder:
            vectors.append(embed(encoder, texts))
    return _common.worst_and_mean_cosine(*vectors)


def judge(scores: Mapping[str, Scores], worst: float) -> dict[str, bool]:
    """The gates, by name."""
    int8, fp32 = scores[f"{ENGINE} int8"], scores[f"{ENGINE} fp32"]
    return {
        f"SciFact nDCG@10: fp32 within {MAX_DIFFERENCE} of the published {PUBLISHED_NDCG}": (
            abs(fp32.ndcg_10 - PUBLISHED_NDCG) <= MAX_DIFFERENCE
        ),
        f"SciFact nDCG@10: int8 within {MAX_DIFFERENCE} of fp32": abs(int8.ndcg_10 - fp32.ndcg_10) <= MAX_DIFFERENCE,
        f"STS-B dev Spearman: int8 within {MAX_DIFFERENCE} of fp32": (
            abs(int8.spearman - fp32.spearman) <= MAX_DIFFERENCE
        ),
        f"fp32 against torch: cosine of every text at least {MIN_COSINE}": worst >= MIN_COSINE,
    }


def report(scores: Mapping[str, Scores]) -> None:
    """The table, in Markdown."""
    print("\n| engine | SciFact nDCG@10 | STS-B dev Spearman | texts cut at 256 tokens | seconds |")
    print("|---|---|---|---|---|")
    for name, score in scores.items():
        print(f"| {name} | {score.ndcg_10:.4f} | {score.spearman:.4f} | {score.truncated} | {score.seconds:.0f} |")


def fewer(retrieval: Retrieval, limit: int) -> Retrieval:
    """The first documents of a set, the judged ones before all others."""
    judged = {doc for row in retrieval.qrels.values() for doc in row}
    kept = sorted(retrieval.docs, key=lambda doc: doc not in judged)[:limit]
    return replace(retrieval, docs={doc: retrieval.docs[doc] for doc in kept})


if __name__ == "__main__":
    sys.exit(main())
