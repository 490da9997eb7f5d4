"""What prune_layers.py prints, and by which gates it judges."""

from __future__ import annotations

import statistics
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import nimbed
from nimbed.errors import QualityError
from nimbed.evaluate import markdown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from nimbed._loading.artefact import Artefact
    from nimbed._types import Precision
    from nimbed.evaluate import Report, Score

MOST_NDCG, MOST_STS, SPEED_SHARE = 0.01, 0.003, 0.9  # the first relative
_METRICS = ("nDCG@10", "Spearman", "MAP")
_CLOSENESS = ("mean_cosine", "min_cosine", "top10_agreement", "rank_correlation")
_SPEEDS = {"docs_per_second": "documents a second", "query_p50_ms": "query p50, ms"}


@dataclass(frozen=True, kw_only=True)
class Network:
    """A model folder with so many layers; ``record`` is how it came to be, empty for the original."""

    layers: int
    folder: Path
    record: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """What tables call it."""
        return f"{self.layers} layers"

    def artefact(self, precision: Precision) -> Artefact | None:
        """As nimbed builds any model's; None where its gate refuses int8."""
        try:
            return nimbed.quantize(self.folder, precision=precision, backend="openvino", progress=False)
        except QualityError as err:
            print(f"{self.label}: {err}", file=sys.stderr)
            return None


def show(
    networks: Sequence[Network], close: Mapping[str, Mapping[str, Any]], report: Report, speeds: Sequence[Any]
) -> None:
    """Four tables, in Markdown."""
    table(
        ("network", "of the original's layers", "cosine when cut", "distilled", "steps", "minutes", "texts"),
        [training_row(network) for network in networks[1:]],
    )
    table(
        ("held-out texts", *(name.replace("_", " ") for name in _CLOSENESS), "int8's gate"),
        [
            (name, *(f"{one[figure]:.4f}" for figure in _CLOSENESS), "missed" if one["missed"] else "passed")
            for name, one in close.items()
        ],
    )
    table(
        ("set", "figure", networks[0].label, *(f"{n.label}: less the original, 95 % interval" for n in networks[1:])),
        [quality_row(report, score) for score in main_scores(report) if score.against_reference is None],
    )
    table(
        ("medians", "precision", "network", networks[0].label, "pruned", "ratio", "range of the pairs' ratios"),
        [speed_row(one, name) for one in speeds for name in _SPEEDS],
    )


def training_row(network: Network) -> list[str]:
    """Layers are counted from 1."""
    one = network.record
    layers = ", ".join(str(layer + 1) for layer in one["kept"])
    cosines = (f"{one[name]:.4f}" for name in ("cosine_before", "cosine_after"))
    return [network.label, layers, *cosines, str(one["steps"]), f"{one['seconds'] / 60:.0f}", str(one["texts"])]


def main_scores(report: Report) -> list[Score]:
    """One figure of each set and setting."""
    return [score for score in report.scores if score.metric in _METRICS]


def quality_row(report: Report, reference: Score) -> list[str]:
    """A set's figure of the original, and by how much the others differ."""
    mine = {s.setting: s.against_reference for s in main_scores(report) if s.set == reference.set}
    others = [mine[label] for label in report.settings[:-1]]
    differences = [f"{c.difference:+.4f} [{c.low:+.4f}, {c.high:+.4f}]" for c in others if c is not None]
    return [reference.set, reference.metric, f"{reference.value:.4f}", *differences]


def speed_row(one: Mapping[str, Any], name: str) -> list[str]:
    """Medians, their ratio and its range."""
    found = one[name]
    medians = [f"{statistics.median(found[side]):.1f}" for side in ("original", "pruned")]
    low, high = found["range"]
    return [
        _SPEEDS[name], one["precision"], one["network"], *medians, f"{found['ratio']:.2f}", f"{low:.2f} to {high:.2f}",
    ]  # fmt: skip


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    print("\n" + markdown.table(header, [[str(value) for value in row] for row in rows]))


def judge(
    networks: Sequence[Network], close: Mapping[str, Mapping[str, Any]], report: Report, speeds: Sequence[Any]
) -> dict[str, bool]:
    """The gates, by name."""
    reference = {score.set: score.value for score in main_scores(report) if score.against_reference is None}
    gates = {}
    for network in networks[1:]:
        label, least = network.label, SPEED_SHARE * networks[0].layers / network.layers
        own = {(s.metric, s.set): s.value for s in main_scores(report) if s.setting == label}
        losses = [(metric, reference[name] - value, reference[name]) for (metric, name), value in own.items()]
        gates[f"{label}: int8's quality gate"] = not close[f"{label}, fp32"]["missed"]
        gates[f"{label}: nDCG@10 of each set loses at most {MOST_NDCG:.0%}"] = all(
            loss <= MOST_NDCG * whole for metric, loss, whole in losses if metric == "nDCG@10"
        )
        gates[f"{label}: STS loses at most {MOST_STS}"] = all(
            loss <= MOST_STS for metric, loss, _ in losses if metric == "Spearman"
        )
        for one in (s for s in speeds if s["network"] == label):
            ratio = one["docs_per_second"]["ratio"]
            gates[f"{label}, {one['precision']}: at least {least:.2f} times the documents a second"] = ratio >= least
    return gates
