"""all-MiniLM-L6-v2 in int8 against fp32, on every set of the data folder, and int8 queries against an fp32 index.

Gates: int8's nDCG@10 is within 1 % of fp32's on each retrieval set, and the mean over the sets within 0.5 %; STS within
0.003; rerank MAP within 1 %; "within" holds for losses and gains alike. Mixed: int8 queries against fp32 documents lose
no more than int8 throughout, in the mean nDCG@10 over the sets: mixed >= min(int8, fp32). Exits with 1 where one fails.

On CPUs without VNNI or AMX, int8 artefacts run with fp32 activations. ``--rounding`` computes the rounding of the
activations as it stands, in fp32: what CPUs with VNNI give, slowly.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import _common
import numpy as np

import nimbed
from nimbed._loading.artefact import open_artefact
from nimbed._loading.settings import EncoderStats
from nimbed._text.tokenizer import TextTokenizer, load_tokenizer
from nimbed.evaluate import Setting, evaluate, load_rerank, load_retrieval, load_sts

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from nimbed.evaluate import Report, RerankSet, RetrievalSet, StsSet

RETRIEVAL = ("scifact", "medline", "chroma_chunks", "stard_reduced_zh", "xquad_zh")
STS, RERANK = ("stsb_en_dev/pairs.tsv.gz",), ("medquad_liveqa_rerank/rerank.jsonl.gz",)
MAX_LENGTH = 256
QUICK_QUERIES, QUICK_DOCS, QUICK_PAIRS = 10, 60, 60
EACH, MEAN, MAX_STS = 0.01, 0.005, 0.003  # the first two relative


def main() -> int:
    parser = _common.parser(__doc__)
    _common.add_data(parser)
    parser.add_argument("--rounding", action="store_true", help="compute OpenVINO's rounding, as VNNI gives it")
    parser.add_argument("--calibrate", metavar="FILE", help="texts for the int8 artefact (default: those nimbed ships)")
    parser.add_argument("--backend", default="auto", help="of int8: native or openvino")
    options = parser.parse_args()
    calibration = nimbed.Calibration(texts=options.calibrate) if options.calibrate else None
    backend = "openvino" if options.rounding else options.backend
    int8 = nimbed.quantize(options.model, calibration=calibration, backend=backend).folder
    settings = [
        Rounded(artefact=int8) if options.rounding else Setting(model=str(int8), precision="int8", name="int8"),
        Setting(model=options.model, precision="fp32", name="fp32"),
    ]
    retrieval, sts, rerank = load(options)
    report = evaluate(
        settings, retrieval=retrieval, sts=sts, rerank=rerank, mixed=True, max_length=MAX_LENGTH, progress=True
    )
    print(report.to_markdown())
    record = {
        "conditions": _common.conditions(max_length=MAX_LENGTH, rounding_of_activations=options.rounding),
        "calibration": open_artefact(int8).manifest.calibration,
        "report": report.to_dict(),
    }
    return _common.finish(options, "quality_table", record, judge(report))


@dataclass(frozen=True, kw_only=True)
class Rounded:
    """An int8 artefact whose graph is computed as it stands, in fp32."""

    artefact: Path
    label: str = "int8"

    @contextmanager
    def open(self, max_length: int | None) -> Iterator[RoundedEncoder]:
        """As ``nimbed.evaluate.Setting.open``."""
        yield RoundedEncoder(self.artefact, max_length)


class RoundedEncoder:
    """Embeds as an encoder does, one text at a time."""

    def __init__(self, artefact: Path, max_length: int | None) -> None:
        from nimbed.backends.openvino_api import ov

        self._spec = open_artefact(artefact).manifest.spec
        length = max_length or self._spec.max_length
        tokenizer = load_tokenizer(artefact)
        self._tokenizer = TextTokenizer(tokenizer, self._spec, max_length=length, truncate="silent")
        self._network = ov.Core().read_model(artefact / "model.xml")
        self._truncated = 0

    def encode_iter(
        self,
        texts: Iterable[str],
        *,
        role: str = "document",
        progress: bool = False,  # noqa: ARG002 (the encoder's signature)
    ) -> Iterator[npt.NDArray[np.float32]]:
        """All texts in one block, float32 ``[n, dim]``."""
        from nimbed.quantization.openvino.exact import vectors_of

        tokens = self._tokenizer(list(texts), self._spec.prompt(role))
        self._truncated += int(np.count_nonzero(tokens.cut))
        yield vectors_of(self._network, tokens.sequences)

    def stats(self) -> EncoderStats:
        """Only what was cut is counted."""
        return EncoderStats(truncated=self._truncated)


def load(options: argparse.Namespace) -> tuple[list[RetrievalSet], list[StsSet], list[RerankSet]]:
    """All sets that are there; a quick run takes the first queries and pairs of each."""
    retrieval = [load_retrieval(options.data / name) for name in present(options.data, RETRIEVAL)]
    sts = [load_sts(options.data / name) for name in present(options.data, STS)]
    rerank = [load_rerank(options.data / name) for name in present(options.data, RERANK)]
    if options.quick:
        retrieval = [fewer(one) for one in retrieval]
        sts = [replace(s, **{k: getattr(s, k)[:QUICK_PAIRS] for k in ("first", "second", "gold")}) for s in sts]
        rerank = [replace(one, items=one.items[:QUICK_QUERIES]) for one in rerank]
    return retrieval, sts, rerank


def present(data: Path, names: Sequence[str]) -> Iterator[str]:
    for name in names:
        if (data / name).exists():
            yield name
        else:
            print(f"{data / name} is not here: left out", file=sys.stderr)


def fewer(one: RetrievalSet) -> RetrievalSet:
    """The first queries, and of the documents those that are judged for them before all others."""
    queries = dict(list(one.queries.items())[:QUICK_QUERIES])
    judged = {doc for query in queries for doc in one.qrels[query]}
    docs = sorted(one.docs, key=lambda doc: doc not in judged)[:QUICK_DOCS]
    return replace(one, queries=queries, docs={doc: one.docs[doc] for doc in docs})


def judge(report: Report) -> dict[str, bool]:
    """The gates, by name."""
    values = {(s.kind, s.set, s.metric, s.setting): s.value for s in report.scores}
    pairs = {
        (kind, name, metric): (value, values[kind, name, metric, "fp32"])
        for (kind, name, metric, setting), value in values.items()
        if setting == "int8"
    }
    ndcg = {name: pair for (_, name, metric), pair in pairs.items() if metric == "nDCG@10"}
    gates = {f"{name} nDCG@10 within {EACH:.1%}": within(*pair, EACH) for name, pair in ndcg.items()}
    if ndcg:
        int8, fp32 = np.mean(list(ndcg.values()), axis=0)
        mixed = float(np.mean([score.value for score in report.mixed if score.metric == "nDCG@10"]))
        gates[f"mean nDCG@10 within {MEAN:.1%}"] = within(int8, fp32, MEAN)
        gates["int8 queries against fp32 documents lose no more than int8 throughout (mean)"] = mixed >= min(int8, fp32)
    for (kind, name, metric), (int8, fp32) in pairs.items():
        if kind == "sts":
            gates[f"{name} {metric} within {MAX_STS}"] = abs(int8 - fp32) <= MAX_STS
        if metric == "MAP":
            gates[f"{name} MAP within {EACH:.1%}"] = within(int8, fp32, EACH)
    return gates


def within(value: float, reference: float, share: float) -> bool:
    return bool(abs(value - reference) <= share * reference)


if __name__ == "__main__":
    sys.exit(main())
