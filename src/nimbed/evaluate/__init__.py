"""How good is it, and is it as good as before? Settings measured on retrieval, similarity and rerank sets.

Data goes one way: ``loaders`` (files -> sets), ``settings`` (words -> what is opened), ``metrics`` and ``bootstrap``
(vectors -> figures), ``run`` (all of it), ``report`` and ``plot`` (what is read).
"""

from __future__ import annotations

from nimbed.evaluate.bootstrap import Comparison
from nimbed.evaluate.loaders import (
    RerankItem,
    RerankSet,
    RetrievalSet,
    StsSet,
    load_rerank,
    load_retrieval,
    load_sts,
)
from nimbed.evaluate.plot import save_plot
from nimbed.evaluate.report import MixedScore, Report, Score, Speed
from nimbed.evaluate.run import evaluate
from nimbed.evaluate.settings import Embedder, Opens, Setting

__all__ = [
    "Comparison",
    "Embedder",
    "MixedScore",
    "Opens",
    "Report",
    "RerankItem",
    "RerankSet",
    "RetrievalSet",
    "Score",
    "Setting",
    "Speed",
    "StsSet",
    "evaluate",
    "load_rerank",
    "load_retrieval",
    "load_sts",
    "save_plot",
]
