"""What a bench found, and how a person or a program reads it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, Literal

from nimbed.evaluate import markdown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nimbed.bench.agreement import Agreement

Unit = Literal["MB", "ms", "s", "texts/s"]
LESS_IS_BETTER = ("MB", "ms", "s")


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One contender on one workload.

    Attributes:
        part: of the bench: "latency", "documents", ...
        case: the workload.
        contender: the label.
        unit: of the values.
        values: one of each round.
        tokens: of one text, on average, special ones included and padding not; None where that says nothing.
        operations: of one text, on average (see :class:`nimbed.bench.operations.Operations`); None likewise.
    """

    part: str
    case: str
    contender: str
    unit: Unit
    values: Sequence[float]
    tokens: float | None = None
    operations: float | None = None

    @property
    def median(self) -> float:
        """Of the rounds."""
        return median(self.values)

    @property
    def texts_per_s(self) -> float | None:
        """Texts a second at the median, or None for what is not a speed."""
        if self.unit == "MB" or self.tokens is None:
            return None
        return self.median if self.unit == "texts/s" else 1000 / self.median

    @property
    def tokens_per_s(self) -> float | None:
        """Useful tokens a second: padding is not counted."""
        rate = self.texts_per_s
        return None if rate is None or self.tokens is None else rate * self.tokens

    @property
    def gops(self) -> float | None:
        """Useful matrix operations a second, in 10^9."""
        rate = self.texts_per_s
        return None if rate is None or self.operations is None else rate * self.operations / 1e9


@dataclass(frozen=True, kw_only=True)
class BenchReport:
    """Everything that a bench found.

    Attributes:
        contenders: labels, in the order of their turns; the last is the reference.
        figures: by part, case and contender.
        agreement: by label, of its vectors with the reference's.
        refused: label -> why no figure of it is here.
        failed: "part, case, contender" -> what went wrong there.
        roof: 10^9 operations a second of matrix products alone, by arithmetic, one value of each round.
        conditions: machine, threads, versions, texts.
    """

    contenders: Sequence[str]
    figures: Sequence[Figure]
    agreement: Mapping[str, Agreement]
    refused: Mapping[str, str]
    failed: Mapping[str, str]
    roof: Mapping[str, Sequence[float]]
    conditions: Mapping[str, Any]

    @property
    def reference(self) -> str:
        """Label of the contender that the others are compared with."""
        return self.contenders[-1]

    def find(self, part: str, case: str, contender: str) -> Figure | None:
        """A figure, if there is one."""
        return next((f for f in self.figures if (f.part, f.case, f.contender) == (part, case, contender)), None)

    def ratio(self, figure: Figure) -> float | None:
        """How many times better than the reference; above 1 is faster or smaller."""
        other = self.find(figure.part, figure.case, self.reference)
        if other is None:
            return None
        ratio = figure.median / other.median
        return 1 / ratio if figure.unit in LESS_IS_BETTER else ratio

    def roof_share(self, figure: Figure) -> dict[str, float]:
        """Useful operations a second as a share of each roof, 0 to 1."""
        gops = figure.gops
        return {} if gops is None else {name: gops / median(values) for name, values in self.roof.items()}

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        figures = [
            {
                **asdict(figure),
                "median": figure.median,
                "tokens_per_s": figure.tokens_per_s,
                "gops": figure.gops,
                "times_reference": self.ratio(figure),
                "roof_share": self.roof_share(figure),
            }
            for figure in self.figures
        ]
        return {**asdict(self), "reference": self.reference, "figures": figures}

    def to_json(self) -> str:
        """The same as text."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n"

    def to_markdown(self) -> str:
        """Tables for people: one of each part, then what they were measured under."""
        parts = list(dict.fromkeys(figure.part for figure in self.figures))
        return "\n\n".join([*(self._table(part) for part in parts), self._notes()]) + "\n"

    def _table(self, part: str) -> str:
        own = [figure for figure in self.figures if figure.part == part]
        roofs = list(self.roof) if any(figure.gops for figure in own) else []
        rows = [
            (
                figure.case,
                markdown.cell(figure.contender),
                f"{shown(figure.median)} {figure.unit}",
                f"{shown(min(figure.values))} to {shown(max(figure.values))}",
                "" if (ratio := self.ratio(figure)) is None else f"{ratio:.2f}",
                "" if figure.tokens_per_s is None else f"{figure.tokens_per_s:,.0f}",
                *(f"{self.roof_share(figure)[roof]:.0%}" if figure.gops else "" for roof in roofs),
            )
            for figure in own
        ]
        header = ("", "contender", "median", "range", "times reference", "tokens/s", *(f"of {r} roof" for r in roofs))
        return f"**{part}**\n\n{markdown.table(header, rows)}"

    def _notes(self) -> str:
        agreed = "; ".join(f"{markdown.cell(k)} {v.mean:.4f}, {v.worst:.4f}" for k, v in self.agreement.items())
        roofs = ", ".join(f"{name} {median(values):.0f}" for name, values in self.roof.items())
        lines = [
            f"The reference is {markdown.cell(self.reference)}; times above 1 are better. Padding is not counted.",
            *([f"Cosine to the reference on the documents, mean and worst: {agreed}."] if agreed else []),
            *([f"Roof, matrix products alone in this run, G operations a second: {roofs}."] if roofs else []),
            *(f"No figures of {markdown.cell(label)}: {reason}." for label, reason in self.refused.items()),
            *(f"Failed, {markdown.cell(place)}: {reason}." for place, reason in self.failed.items()),
            *(f"{name.replace('_', ' ')}: {_words(value)}" for name, value in self.conditions.items()),
        ]
        return "\n".join(f"- {line}" for line in lines)


def shown(value: float) -> str:
    """Three digits, as a person would write them."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _words(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {inner}" for key, inner in value.items())
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
