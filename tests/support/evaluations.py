"""Reports of evaluations that never ran: every figure is known."""

from __future__ import annotations

from nimbed.evaluate import Comparison, MixedScore, Report, Score, Speed

LOSS = Comparison(difference=-0.0125, low=-0.02, high=0.001, p_value=0.0421)
SURE = Comparison(difference=0.25, low=0.2, high=0.3, p_value=0.0005)


def make_report(*, settings: tuple[str, ...] = ("small", "fp32"), mixed: bool = False, truncated: int = 0) -> Report:
    """Two sets, one metric each; every setting but the last loses to it."""
    sets = (("topics", "retrieval", "nDCG@10"), ("pairs", "sts", "Spearman"))
    return Report(
        settings=settings,
        scores=[
            Score(
                kind=kind,
                set=name,
                metric=metric,
                setting=label,
                items=5,
                value=0.5 if label == settings[-1] else 0.4875,
                against_reference=None if label == settings[-1] else LOSS,
            )
            for name, kind, metric in sets
            for label in settings
        ],
        mixed=[
            MixedScore(
                set="topics",
                metric="nDCG@10",
                queries=settings[0],
                documents=settings[-1],
                value=0.45,
                against_queries=LOSS,
                against_documents=SURE,
            )
        ]
        * mixed,
        speeds=[
            Speed(kind=kind, set=name, setting=label, texts=30, seconds=0.25, truncated=truncated)
            for name, kind, _ in sets
            for label in settings
        ],
        max_length=64,
        resamples=300,
        seed=7,
    )
