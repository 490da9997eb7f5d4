"""A line for each contender out of what `peers.py` measured; by itself: python benchmarks/_summary.py FILE.json."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from nimbed.bench.report import shown
from nimbed.evaluate import markdown

PAUSED = ("pauses", "natural lengths, 20 ms apart, p50")
FIGURES = {
    "documents a second": ("documents", "natural lengths"),
    "query p50 20 ms apart, ms": PAUSED,
    "p90": ("pauses", "natural lengths, 20 ms apart, p90"),
    "query p50 as they come, ms": ("latency", "natural lengths, as they come, p50"),
    "p99": ("latency", "natural lengths, as they come, p99"),
    "128 x 256 tokens, a second": ("batches", "128 x 256 tokens"),
    "64 callers, queries a second": ("served", "64 callers"),
    "start to first vector, s": ("start", "fresh process, first vector"),
    "resident MB": ("start", "fresh process, resident"),
}
DOCUMENTS = next(iter(FIGURES))


def summary(record: dict[str, Any]) -> str:
    """A Markdown table of the report's medians; what was not measured is left empty, what failed says so."""
    found = {(f["contender"], f["part"], f["case"]): f for f in record["figures"]}
    times = f"times {record['reference']}"
    header = ["contender", DOCUMENTS, times, *list(FIGURES)[1:], "cosine, mean", "worst"]
    return markdown.table(header, [_row(record, found, label) for label in record["contenders"]])


def _row(record: dict[str, Any], found: dict[tuple[str, str, str], dict[str, Any]], label: str) -> list[str]:
    cells = {name: _cell(record, found, label, *place) for name, place in FIGURES.items()}
    documents = found.get((label, *FIGURES[DOCUMENTS]))
    ratio = f"{documents['times_reference']:.2f}" if documents else ""
    agreed = record["agreement"].get(label)
    cosines = [f"{agreed[name]:.4f}" for name in ("mean", "worst")] if agreed else ["", ""]
    return [label, cells.pop(DOCUMENTS), ratio, *cells.values(), *cosines]


def _cell(record: dict[str, Any], found: dict[Any, dict[str, Any]], label: str, part: str, case: str) -> str:
    if figure := found.get((label, part, case)):
        return shown(figure["median"])
    return "failed" if f"{part}, {case}, {label}" in record["failed"] else ""


if __name__ == "__main__":
    print(summary(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
