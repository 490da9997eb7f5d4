"""NimbedEmbeddings beside HuggingFaceEmbeddings: the same texts and threads, both through LangChain's interface.

Both embed everything once first: that warms them up and shows that their vectors agree. Then they take turns
(A B A B), and the ratio of the medians is what counts. Exits with 1 where a gate fails.
"""

from __future__ import annotations

import statistics
import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import _common
import numpy as np

from nimbed.bench.measure import PAUSE_S, each_ms
from nimbed.bench.report import shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_core.embeddings import Embeddings

    from nimbed import EncoderInfo

MIN_THROUGHPUT_RATIO = 1.7
MAX_LATENCY_RATIO = 1 / 4


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One value per pair; A is nimbed, B is HuggingFaceEmbeddings.

    Attributes:
        docs_per_second_a: over all documents in one call of ``embed_documents``.
        docs_per_second_b: the same for B.
        paused_p50_ms_a: median of all queries, each in a call of ``embed_query`` 20 ms after the one before, as users'
            queries come one by one.
        paused_p50_ms_b: the same for B.
        paused_p90_ms_a: their 90th percentile.
        paused_p90_ms_b: the same for B.
        query_p50_ms_a: median of the same queries in a loop.
        query_p50_ms_b: the same for B.
        worst_cosine: between A's and B's vectors, over documents and queries.
        mean_cosine: the same, on average.
        conditions: machine, versions, lengths.
    """

    docs_per_second_a: list[float]
    docs_per_second_b: list[float]
    paused_p50_ms_a: list[float]
    paused_p50_ms_b: list[float]
    paused_p90_ms_a: list[float]
    paused_p90_ms_b: list[float]
    query_p50_ms_a: list[float]
    query_p50_ms_b: list[float]
    worst_cosine: float
    mean_cosine: float
    conditions: dict[str, Any]

    @property
    def throughput_ratio(self) -> float:
        """A's documents a second in B's."""
        return statistics.median(self.docs_per_second_a) / statistics.median(self.docs_per_second_b)

    @property
    def latency_ratio(self) -> float:
        """A's time for a query in B's."""
        return statistics.median(self.query_p50_ms_a) / statistics.median(self.query_p50_ms_b)

    @property
    def paused_ratio(self) -> float:
        """A's time for a query after a pause in B's."""
        return statistics.median(self.paused_p50_ms_a) / statistics.median(self.paused_p50_ms_b)


def main() -> int:
    parser = _common.parser(__doc__)
    _common.add_data(parser)
    parser.add_argument("--texts", type=int, default=512, help="how many passages")
    parser.add_argument("--queries", type=int, default=60, help="how many questions (60 at most)")
    parser.add_argument("--pairs", type=int, default=5, help="how often A B is repeated")
    parser.add_argument("--precision", default="auto", help="of nimbed: int8 or fp32")
    options = parser.parse_args()
    if options.quick:
        options.texts, options.queries, options.pairs = 64, 20, 2
    texts = _common.passages(options.data, options.texts)
    queries = _common.spread(_common.questions(), options.queries)
    result = compare(options.model, texts, queries, pairs=options.pairs, precision=options.precision)
    report(result)
    ratios = {name: getattr(result, name) for name in ("throughput_ratio", "latency_ratio", "paused_ratio")}
    return _common.finish(options, "compare_huggingface", {**asdict(result), **ratios}, judge(result))


def compare(model: str, texts: list[str], queries: list[str], *, pairs: int, precision: str = "auto") -> Comparison:
    """Load both, check that they agree, and let them take turns."""
    from nimbed import Encoder

    with Encoder(model, precision=precision) as encoder:
        info = encoder.info
    conditions = describe(info, texts, queries, pairs)
    ours, theirs = load(model, precision, info.threads)
    worst, mean = agreement(ours, theirs, texts, queries)
    documents = _common.alternate("documents a second", lambda: rate(ours, texts), lambda: rate(theirs, texts), pairs)
    paused, slow, loop = (
        _common.alternate(
            f"query p{percentile} {'20 ms apart' if pause_s else 'in a loop'}, ms",
            lambda p=percentile, s=pause_s: query_ms(ours, queries, p, s),
            lambda p=percentile, s=pause_s: query_ms(theirs, queries, p, s),
            pairs,
        )
        for percentile, pause_s in ((50, PAUSE_S), (90, PAUSE_S), (50, 0.0))
    )
    return Comparison(
        docs_per_second_a=documents[0],
        docs_per_second_b=documents[1],
        paused_p50_ms_a=paused[0],
        paused_p50_ms_b=paused[1],
        paused_p90_ms_a=slow[0],
        paused_p90_ms_b=slow[1],
        query_p50_ms_a=loop[0],
        query_p50_ms_b=loop[1],
        worst_cosine=worst,
        mean_cosine=mean,
        conditions=conditions,
    )


def describe(info: EncoderInfo, texts: list[str], queries: list[str], pairs: int) -> dict[str, Any]:
    """Taken before anything runs, since the load of the machine is among it."""
    return _common.conditions(
        nimbed=f"{info.backend} {info.precision}, {info.instruction_set}, {info.threads} threads",
        huggingface=f"torch fp32, {info.threads} threads, batches of 32 (its default)",
        pairs=pairs,
        max_length=info.max_length,
        document_tokens=_common.token_lengths(info.artefact, texts),
        query_tokens=_common.token_lengths(info.artefact, queries),
    )


def load(model: str, precision: str, threads: int) -> tuple[Embeddings, Embeddings]:
    """Both with the same number of threads."""
    import torch
    import transformers
    from langchain_huggingface import HuggingFaceEmbeddings

    from nimbed.langchain import NimbedEmbeddings

    transformers.logging.set_verbosity_error()
    torch.set_num_threads(threads)
    # Without its cache: the same texts come again and again here.
    ours = NimbedEmbeddings(model=model, precision=precision, threads=threads, truncate="silent", cache=None)
    return ours, HuggingFaceEmbeddings(model=model, model_kwargs={"device": "cpu"})


def agreement(ours: Embeddings, theirs: Embeddings, texts: list[str], queries: list[str]) -> tuple[float, float]:
    """Worst and mean cosine over all texts and queries; also the warm-up of both.

    Raises:
        AssertionError: the two do not compute the same thing, so their speeds must not be compared.
    """
    from nimbed.bench.agreement import agreement as compared
    from nimbed.bench.agreement import why_refused

    a, b = ([*e.embed_documents(texts), *(e.embed_query(q) for q in queries)] for e in (ours, theirs))
    found = compared(np.asarray(a), np.asarray(b))
    assert found.held, why_refused(found)
    return found.worst, found.mean


def rate(embeddings: Embeddings, texts: list[str]) -> float:
    """Documents a second."""
    return len(texts) / _common.seconds(lambda: embeddings.embed_documents(texts))


def query_ms(embeddings: Embeddings, queries: Sequence[str], percentile: float, pause_s: float) -> float:
    """A percentile of the milliseconds of a query, each after so many seconds of sleep."""
    return float(np.percentile(each_ms(embeddings.embed_query, queries, pause_s), percentile))


def judge(result: Comparison) -> dict[str, bool]:
    """The gates, by name."""
    return {
        f"documents a second: at least {MIN_THROUGHPUT_RATIO} times HuggingFaceEmbeddings'": (
            result.throughput_ratio >= MIN_THROUGHPUT_RATIO
        ),
        f"p50 of a query: at most {MAX_LATENCY_RATIO} of HuggingFaceEmbeddings'": (
            result.latency_ratio <= MAX_LATENCY_RATIO
        ),
        f"p50 of a query 20 ms after another: at most {MAX_LATENCY_RATIO} of HuggingFaceEmbeddings'": (
            result.paused_ratio <= MAX_LATENCY_RATIO
        ),
    }


def report(result: Comparison) -> None:
    """The table, in Markdown."""
    rows = (
        ("query p50, 20 ms apart, ms", result.paused_p50_ms_a, result.paused_p50_ms_b),
        ("query p90, 20 ms apart, ms", result.paused_p90_ms_a, result.paused_p90_ms_b),
        ("query p50 in a loop, ms", result.query_p50_ms_a, result.query_p50_ms_b),
        ("documents a second", result.docs_per_second_a, result.docs_per_second_b),
    )
    print("\n| medians | nimbed | HuggingFaceEmbeddings | ratio | range of the pairs' ratios |")
    print("|---|---|---|---|---|")
    for name, *both in rows:
        ours, theirs = map(statistics.median, both)
        each = np.divide(*both)
        print(
            f"| {name} | {shown(ours)} | {shown(theirs)} | {ours / theirs:.2f} | {each.min():.2f} to {each.max():.2f} |"
        )
    print(f"\nVectors agree: cosine {result.mean_cosine:.4f} on average, {result.worst_cosine:.4f} at worst")


if __name__ == "__main__":
    sys.exit(main())
