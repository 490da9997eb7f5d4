"""Families at published widths beside OpenVINO and sentence-transformers, and fp32: documents and lone queries.

Networks have seeded weights (all but MiniLM's), so this is about speed alone; texts have their natural lengths.
Contenders take turns (A B A B) on the same texts with the same threads. A case that a run leaves out stays in the file
as it was. Exits with 1 where a gate fails.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

import _common
import _family_models
import _peers
import _query_limits
import numpy as np
from platformdirs import user_cache_path

from nimbed import Reranker, _machine, quantize
from nimbed._model_folder.safetensors import read_tensors
from nimbed.bench.agreement import agreement, why_refused
from nimbed.bench.measure import latency_ms, texts_per_s
from nimbed.evaluate import Setting, markdown
from nimbed.quantization import Calibration, QualityGate

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator, Mapping, Sequence

    from nimbed._types import Float32Array, Precision
    from nimbed.bench import Contender

    Figures = dict[str, dict[str, list[float]]]

DOCUMENTS, QUERY = "documents a second", "query p50, ms"
NATIVE, OPENVINO = "nimbed native int8", "nimbed OpenVINO int8"
NATIVE_FP32, OPENVINO_FP32, TORCH = "nimbed native fp32", "nimbed OpenVINO fp32", "sentence-transformers fp32"
# Random weights need not rank like anything.
LENIENT = QualityGate(mean_cosine=0, min_cosine=0, top10_agreement=0, rank_correlation=0, kendall_tau=0)
MIN_CORRELATION = 0.9  # of a cross-encoder's scores in int8


@dataclass(frozen=True, kw_only=True)
class Case:
    """A network, who runs it, and whose vectors the others' must be near to.

    Attributes:
        shape: of `_family_models`; None is the model of ``--model``.
        contenders: labels; the last is the reference.
        max_length: tokens of a text, or of a pair.
    """

    shape: str | None
    contenders: tuple[str, ...]
    max_length: int = _family_models.MAX_LENGTH

    @property
    def scores(self) -> bool:
        """Whether it gives scores of pairs, and no vectors."""
        return self.shape == "cross-encoder"


class Gate(NamedTuple):
    """Documents a second: at least so many times another contender's. A query's p50: at most."""

    case: str
    figure: str
    ours: str
    theirs: str
    times: float
    of_reading: float | None = None  # or at most so many times what reading the weights once takes

    @property
    def name(self) -> str:
        """A line of the report."""
        bound = f"at {self._bound} {self.times:.3g} times {self.theirs}"
        reading = f", or {self.of_reading} times reading the weights" if self.of_reading else ""
        return f"{self.case}, {self.ours}, {self.figure}: {bound}{reading}"

    @property
    def _bound(self) -> str:
        return "least" if self.figure == DOCUMENTS else "most"

    def held(self, found: Mapping[str, Any]) -> bool:
        """Whether a case's figures are within it."""
        ours, theirs = (found["figures"][self.figure][label] for label in (self.ours, self.theirs))
        if self.figure == DOCUMENTS:
            return ratio(ours, theirs) >= self.times
        if self.of_reading is not None and ratio(ours, found["reading_ms"]) <= self.of_reading:
            return True
        return ratio(ours, theirs) <= self.times


CASES = {
    "modernbert": Case(shape="modernbert-base", contenders=(NATIVE, OPENVINO, TORCH)),
    "nomic": Case(shape="nomic-bert", contenders=(NATIVE, TORCH)),
    "cross-encoder": Case(shape="cross-encoder", contenders=(NATIVE, OPENVINO, TORCH)),
    "minilm-fp32": Case(shape=None, contenders=(NATIVE_FP32, OPENVINO_FP32), max_length=256),
    "base-fp32": Case(shape="bert-base", contenders=(NATIVE_FP32, OPENVINO_FP32)),
}
GATES = (
    Gate("modernbert", DOCUMENTS, NATIVE, OPENVINO, 1.5),
    Gate("modernbert", DOCUMENTS, NATIVE, TORCH, 5),
    Gate("modernbert", QUERY, NATIVE, OPENVINO, 1 / 3),
    Gate("nomic", DOCUMENTS, NATIVE, TORCH, 5),
    Gate("cross-encoder", DOCUMENTS, NATIVE, TORCH, 4),
    Gate("cross-encoder", DOCUMENTS, NATIVE, OPENVINO, 1.5),
    *(Gate(case, DOCUMENTS, NATIVE_FP32, OPENVINO_FP32, 1) for case in ("minilm-fp32", "base-fp32")),
    Gate("minilm-fp32", QUERY, NATIVE_FP32, OPENVINO_FP32, 1 / 2),
    # Half of OpenVINO's time is hardly more than reading so many weights takes.
    Gate("base-fp32", QUERY, NATIVE_FP32, OPENVINO_FP32, 1 / 2, of_reading=1.5),
)


def main() -> int:
    options = arguments()
    measured: dict[str, Any] = {}
    for name in options.only or CASES:
        folder, layers = model_folder(CASES[name], options)
        contenders = {label: contender(label, CASES[name], folder) for label in CASES[name].contenders}
        if not options.prepare:
            measured[name] = {"layers": layers, **measure(name, contenders, folder, options)}
            print(f"\n{name}, {layers or 'all'} layers\n{table(measured[name]['figures'])}", flush=True)
    if options.prepare:
        return 0
    others = _common.earlier(options, "family_speed", "cases") if options.only else {}
    record = {"conditions": _common.conditions(), "cases": {**others, **measured}}
    return _common.finish(options, "family_speed", record, judge(record["cases"]))


def arguments() -> Namespace:
    parser = _common.parser(__doc__)
    _common.add_data(parser)
    parser.add_argument("--only", action="append", choices=list(CASES), help="these cases; may be repeated")
    parser.add_argument("--layers", type=int, help="fewer layers than published ones have, of seeded networks")
    parser.add_argument("--texts", type=int, default=100, help="how many passages")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each that count")
    parser.add_argument("--prepare", action="store_true", help="make the models, measure nothing")
    parser.add_argument("--work", type=Path, default=user_cache_path("nimbed") / "families", help="for the models")
    options = parser.parse_args()
    if options.quick:
        options.texts, options.rounds, options.layers = 12, 2, options.layers or 2
    return options


def model_folder(case: Case, options: Namespace) -> tuple[Path, int | None]:
    """Where it is, and its depth where that was chosen here."""
    if case.shape is None:
        return Path(options.model), None
    options.work.mkdir(parents=True, exist_ok=True)
    layers = min(options.layers or np.inf, _family_models.LAYERS[case.shape])
    target = options.work / f"{case.shape}-{layers}"
    return _family_models.write(case.shape, layers, Path(options.model), target), layers


def contender(label: str, case: Case, folder: Path) -> Contender:
    """What opens it; an artefact is built first, where the engine takes one."""
    question, threads = _common.questions()[0], _machine.thread_plan().threads
    if label == TORCH:
        if case.scores:
            return _peers.CrossEncoder(label=label, folder=str(folder), threads=threads, question=question)
        return _peers.SentenceTransformers(label=label, folder=str(folder), threads=threads)
    _, backend, precision = label.lower().split()
    model = str(folder)
    if label != NATIVE_FP32:
        model = str(built(folder, backend, precision))
    if case.scores:
        return Scoring(model=model, name=label, backend=backend, precision=precision, question=question)
    return Setting(model=model, name=label, backend=backend, precision=precision)


def built(folder: Path, backend: str, precision: Precision) -> Path:
    """The artefact; an earlier run's is taken as it is."""
    texts = Calibration(count=24) if precision == "int8" else None
    return quantize(folder, backend=backend, precision=precision, gate=LENIENT, calibration=texts).folder


@dataclass(frozen=True, kw_only=True)
class Scoring(Setting):
    """A reranker as a contender: the scores of texts with one question, ``[B]``."""

    question: str

    @contextmanager
    def open(self, max_length: int | None) -> Iterator[_peers.Embedding]:  # type: ignore[override]
        """A reranker that cuts pairs."""
        with Reranker(self.model, backend=self.backend, precision=self.precision, max_length=max_length) as reranker:
            yield _peers.Embedding(lambda texts, role: reranker.scores(self.question, list(texts)))  # noqa: ARG005


def measure(name: str, contenders: Mapping[str, Contender], folder: Path, options: Namespace) -> dict[str, Any]:
    """Figures of every round by what is measured and by contender, under the conditions that they were taken under.

    Of fp32 also what reading the weights took.
    """
    case, texts, queries = CASES[name], _common.passages(options.data, options.texts), _common.questions()
    conditions = _common.conditions(
        max_length=case.max_length,
        document_tokens=_common.token_lengths(str(folder), texts),
        query_tokens=_common.token_lengths(str(folder), queries),
    )
    with ExitStack() as stack:
        opened = {label: stack.enter_context(one.open(case.max_length)) for label, one in contenders.items()}
        found = {label: one.encode(texts) for label, one in opened.items()}
        closeness = {label: near(case, found[label], found[case.contenders[-1]]) for label in opened}
        figures: Figures = {DOCUMENTS: {label: [] for label in opened}, QUERY: {label: [] for label in opened}}
        reading: list[float] = []
        for _ in range(options.rounds):
            for label, one in opened.items():
                figures[DOCUMENTS][label].append(texts_per_s(one, texts))
            for label, one in opened.items():
                figures[QUERY][label].append(latency_ms(one, queries))
            if case.contenders[0] == NATIVE_FP32:
                reading.append(reading_ms(folder))
    return {"conditions": conditions, "closeness": closeness, "figures": figures, "reading_ms": reading}


def reading_ms(folder: Path) -> float:
    """What all threads take to read the layers' weights once, in fp32."""
    tensors = read_tensors(folder / "model.safetensors")[0]
    size = sum(values.size for name, values in tensors.items() if "layer." in name) * 4
    return size / _query_limits.read_gb_per_s(size, _machine.thread_plan().threads) / 1e6


def near(case: Case, found: Float32Array, reference: Float32Array) -> dict[str, float]:
    """How close a contender is to the reference.

    Raises:
        AssertionError: it computes something else, so that speeds must not be compared.
    """
    if case.scores:
        correlation = float(np.corrcoef(found, reference)[0, 1])
        assert correlation >= MIN_CORRELATION, f"scores correlate by {correlation:.3f} alone"
        return {"correlation": correlation}
    cosines = agreement(found, reference)
    assert cosines.held, why_refused(cosines)
    return {"worst_cosine": cosines.worst, "mean_cosine": cosines.mean}


def table(figures: Figures) -> str:
    """Medians, and the first contender's over each other's, with the range over the rounds."""
    rows = []
    for figure, by_label in figures.items():
        first, *_ = by_label.values()
        for label, values in by_label.items():
            each = np.divide(first, values)
            spread = f"{ratio(first, values):.2f} ({each.min():.2f} to {each.max():.2f})"
            rows.append([figure, label, f"{median(values):.3g}", "" if values is first else spread])
    return markdown.table(["figure", "contender", "median", "the first's in it"], rows)


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Median over the rounds: the two stood next to each other in each."""
    return float(np.median(np.divide(ours, theirs)))


def judge(cases: Mapping[str, Any]) -> dict[str, bool]:
    """The gates, by name; those of a case that was not measured are left out."""
    gates = {}
    for gate in GATES:
        if gate.case in cases:
            gates[gate.name] = gate.held(cases[gate.case])
    return gates


if __name__ == "__main__":
    sys.exit(main())
