"""What an evaluation found, and how a person or a program reads it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from nimbed.evaluate.markdown import cell, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nimbed.evaluate.bootstrap import Comparison

Kind = Literal["rerank", "retrieval", "sts"]

SPEED_NOTE = (
    "Texts a second (documents, sentences; tokenization included) were timed once, in passing: a side figure. "
    "Other processes, the texts' lengths and shapes that are compiled on first sight all move it."
)


@dataclass(frozen=True, kw_only=True)
class Score:
    """One figure of one setting.

    Attributes:
        kind: of the set.
        set: its name.
        metric: its name, with the cut.
        setting: the label.
        items: queries or pairs that it is a figure of.
        value: between 0 and 1 (Spearman: -1 and 1).
        against_reference: the setting less the reference; None for the reference itself.
    """

    kind: Kind
    set: str
    metric: str
    setting: str
    items: int
    value: float
    against_reference: Comparison | None


@dataclass(frozen=True, kw_only=True)
class MixedScore:
    """One setting's queries against the reference's documents: what an index that is kept would give.

    Attributes:
        set: the retrieval set.
        metric: its name, with the cut.
        queries: label of the setting that embedded the queries.
        documents: label of the setting that embedded the documents, the reference.
        value: the figure.
        against_queries: mixed less the queries' setting throughout: what is lost by not indexing again.
        against_documents: mixed less the reference throughout: what the change of queries alone does.
    """

    set: str
    metric: str
    queries: str
    documents: str
    value: float
    against_queries: Comparison
    against_documents: Comparison


@dataclass(frozen=True, kw_only=True)
class Speed:
    """How long the documents (or sentences) of a set took.

    Attributes:
        kind: of the set.
        set: its name.
        setting: the label.
        texts: encoded.
        seconds: that they took, by the wall clock.
        truncated: texts of the set, queries included, that lost tokens.
    """

    kind: Kind
    set: str
    setting: str
    texts: int
    seconds: float
    truncated: int

    @property
    def texts_per_s(self) -> float:
        """Texts a second."""
        return self.texts / self.seconds if self.seconds else 0.0


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything that an evaluation found.

    Attributes:
        settings: labels, in the order given; the last is the reference.
        scores: by set, metric and setting.
        mixed: empty unless asked for.
        speeds: by set and setting.
        max_length: tokens that a text kept where its setting had no limit of its own; None is the model's.
        resamples: of the bootstrap.
        seed: of the bootstrap.
    """

    settings: Sequence[str]
    scores: Sequence[Score]
    mixed: Sequence[MixedScore]
    speeds: Sequence[Speed]
    max_length: int | None
    resamples: int
    seed: int

    @property
    def reference(self) -> str:
        """Label of the setting that the others are compared with."""
        return self.settings[-1]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        speeds = [{**asdict(speed), "texts_per_s": speed.texts_per_s} for speed in self.speeds]
        return {**asdict(self), "speeds": speeds, "reference": self.reference, "speed_note": SPEED_NOTE}

    def to_json(self) -> str:
        """The same as text."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n"

    def to_markdown(self) -> str:
        """Tables for people."""
        parts = [_scores(self), *([_mixed(self)] if self.mixed else []), _notes(self)]
        return "\n\n".join(parts) + "\n"


def _scores(report: Report) -> str:
    speeds = {(speed.set, speed.setting): speed.texts_per_s for speed in report.speeds}
    rows = [
        (
            cell(score.set),
            score.metric,
            cell(score.setting),
            f"{score.value:.4f}",
            "reference" if score.against_reference is None else _difference(score.against_reference),
            "" if score.against_reference is None else _p(score.against_reference),
            f"{speeds[score.set, score.setting]:.0f}",
        )
        for score in report.scores
    ]
    return table(("set", "metric", "setting", "value", "difference [95 % interval]", "p", "texts/s"), rows)


def _mixed(report: Report) -> str:
    rows = [
        (
            cell(score.set),
            score.metric,
            cell(score.queries),
            f"{score.value:.4f}",
            _difference(score.against_queries),
            _difference(score.against_documents),
        )
        for score in report.mixed
    ]
    header = ("set", "metric", "queries of", "value", "less this setting throughout", "less the reference throughout")
    title = f"Queries of a setting against the documents of {report.reference} (must I re-index?):"
    return f"{title}\n\n{table(header, rows)}"


def _notes(report: Report) -> str:
    cut = [s for s in report.speeds if s.truncated]
    notes = [f"The reference is {report.reference}."]
    if len(report.settings) > 1:
        notes.append(
            "A difference is the setting less the reference, on the same queries or pairs: paired bootstrap, "
            f"{report.resamples} resamples, seed {report.seed}. An interval that holds 0 shows no difference."
        )
    if cut:
        counts = ", ".join(f"{s.set} {s.truncated} ({s.setting})" for s in cut)
        notes.append(f"Texts cut to the maximum length: {counts}.")
    return " ".join([*notes, SPEED_NOTE])


def _difference(found: Comparison) -> str:
    return f"{found.difference:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"


def _p(found: Comparison) -> str:
    return "< 0.001" if found.p_value < 0.001 else f"{found.p_value:.3f}"
