"""Retrieval (SciFact) and similarity (STS-B dev) in int8 beside fp32, and fp32 beside torch.

nDCG@10 as trec_eval computes it (Jarvelin and Kekalainen 2002, with linear gain): DCG = sum of rel_i / log2(i + 1) over
the ten best documents, divided by the DCG of the ideal order; queries without a relevant document are left out.
Spearman's rank correlation is scipy's. Exits with 1 where a gate fails.
"""

from __future__ import annotations

import csv
import gzip
import sys
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import _common
import numpy as np

from nimbed import Encoder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

MAX_LENGTH = 256
MAX_DIFFERENCE = 0.003
MIN_COSINE = 0.99999
PUBLISHED_NDCG = 0.6451
QUICK_DOCS = 400  # the judged ones first
AGAINST_TORCH, QUICK_AGAINST_TORCH = 500, 40  # texts, half passages and half sentences


@dataclass(frozen=True, kw_only=True)
class Retrieval:
    """Documents, queries and judgements ``{query: {document: relevance}}``."""

    docs: Mapping[str, str]
    queries: Mapping[str, str]
    qrels: Mapping[str, Mapping[str, int]]


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
    retrieval = load_retrieval(options.data / "scifact", QUICK_DOCS if options.quick else None)
    pairs = load_pairs(options.data / "stsb_en_dev" / "pairs.tsv.gz")
    conditions = _common.conditions(scifact_docs=len(retrieval.docs), stsb_pairs=len(pairs), max_length=MAX_LENGTH)
    engines = [("int8", "openvino"), ("fp32", "openvino"), *([("fp32", "torch")] if options.torch else [])]
    scores = {f"{b} {p}": measure(options.model, p, b, retrieval, pairs) for p, b in engines}
    sample = real_texts(options.data, pairs, QUICK_AGAINST_TORCH if options.quick else AGAINST_TORCH)
    worst, mean = against_torch(options.model, sample)
    report(scores)
    difference, error = paired(scores["openvino int8"].by_query, scores["openvino fp32"].by_query)
    print(f"\nSciFact, int8 less fp32: {difference:+.4f}, standard error {error:.4f} (paired, by query)")
    print(f"OpenVINO fp32 against torch, {len(sample)} texts: worst cosine {worst:.7f}, mean {mean:.7f}")
    record = {
        "conditions": conditions,
        "scores": {name: score.record() for name, score in scores.items()},
        "scifact_int8_less_fp32": {"difference": difference, "standard_error": error},
        "fp32_against_torch": {"texts": len(sample), "worst_cosine": worst, "mean_cosine": mean},
    }
    return _common.finish(options, "quality", record, judge(scores, worst))


def measure(
    model: str, precision: str, backend: str, retrieval: Retrieval, pairs: Sequence[tuple[float, str, str]]
) -> Scores:
    """Both sets with one engine."""
    print(f"{backend} {precision}", file=sys.stderr)
    started = time.perf_counter()
    with Encoder(model, backend=backend, precision=precision, max_length=MAX_LENGTH, truncate="silent") as encoder:
        docs = embed(encoder, list(retrieval.docs.values()))
        queries = encoder.encode(list(retrieval.queries.values()), role="query")
        left = embed(encoder, [first for _, first, _ in pairs])
        right = embed(encoder, [second for _, _, second in pairs])
        truncated = encoder.stats().truncated
    return Scores(
        by_query=ndcg_at_10(docs, queries, retrieval),
        spearman=spearman((left * right).sum(axis=1), [score for score, _, _ in pairs]),
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
    names = list(retrieval.docs)
    results = []
    for query, row in zip(retrieval.queries, queries @ docs.T, strict=True):
        judged = retrieval.qrels.get(query, {})
        ideal = dcg(sorted(judged.values(), reverse=True)[:10])
        if ideal:
            best = np.argsort(-row, kind="stable")[:10]
            results.append(dcg([judged.get(names[i], 0) for i in best]) / ideal)
    return np.array(results)


def paired(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Mean of the differences by query, and its standard error."""
    differences = first - second
    return float(differences.mean()), float(differences.std(ddof=1) / np.sqrt(len(differences)))


def dcg(gains: Sequence[int]) -> float:
    """Discounted cumulative gain: gains in rank order, divided by log2 of rank + 1."""
    return float(sum(gain / np.log2(rank + 1) for rank, gain in enumerate(gains, start=1)))


def spearman(predicted: npt.NDArray[np.float32], gold: Sequence[float]) -> float:
    """Spearman's rank correlation; ties share their mean rank."""
    from scipy.stats import spearmanr

    return float(spearmanr(predicted, gold).statistic)


def real_texts(data: Path, pairs: Sequence[tuple[float, str, str]], count: int) -> list[str]:
    """Half passages, half sentences."""
    return [*_common.passages(data, count // 2), *_common.spread([first for _, first, _ in pairs], count // 2)]


def against_torch(model: str, texts: list[str]) -> tuple[float, float]:
    """Worst and mean cosine, OpenVINO fp32 to torch."""
    vectors = []
    for backend in ("openvino", "torch"):
        with Encoder(model, backend=backend, precision="fp32", truncate="silent") as encoder:
            vectors.append(embed(encoder, texts))
    return _common.worst_and_mean_cosine(*vectors)


def judge(scores: Mapping[str, Scores], worst: float) -> dict[str, bool]:
    """The gates, by name."""
    int8, fp32 = scores["openvino int8"], scores["openvino fp32"]
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


def load_retrieval(folder: Path, limit: int | None = None) -> Retrieval:
    """A set in the format that the README describes."""
    qrels: dict[str, dict[str, int]] = defaultdict(dict)
    with (folder / "qrels.tsv").open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines, delimiter="\t"):
            qrels[row["query_id"]][row["corpus_id"]] = int(row["score"])
    records = list(_common.read_jsonl(folder / "corpus.jsonl.gz"))
    judged = {doc for row in qrels.values() for doc in row}
    if limit:
        records = sorted(records, key=lambda record: record["id"] not in judged)[:limit]
    return Retrieval(
        docs={r["id"]: f"{r.get('title', '')} {r['text']}".strip() for r in records},
        queries={r["id"]: r["text"] for r in _common.read_jsonl(folder / "queries.jsonl.gz")},
        qrels=qrels,
    )


def load_pairs(path: Path) -> list[tuple[float, str, str]]:
    """(score, sentence, sentence) of an STS set."""
    with gzip.open(path, "rt", encoding="utf-8", newline="") as lines:
        rows = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [(float(row["score"]), row["sentence1"], row["sentence2"]) for row in rows]


if __name__ == "__main__":
    sys.exit(main())
