"""What a job says of itself."""

from __future__ import annotations

from pathlib import Path

from nimbed.bulk.processes import Choice
from nimbed.bulk.summary import Summary


def test_all_of_it_is_said():
    summary = Summary(
        out=Path("out.npy"), rows=90, width=8, computed=10, kept=80, before=85, truncated=2,
        skipped={"not JSON": 3, "NUL": 1}, skipped_file=Path("out.npy.skipped.jsonl"), damaged=("part-000001.rows",),
        seconds=2.0, processes=Choice(processes=2, reason="measured"),
    )  # fmt: skip
    assert summary.describe().splitlines() == [
        "out.npy: 90 x 8, 2 texts truncated",
        "computed 10 rows in 2.0 s, 5 a second",
        "by 2 processes: measured",
        "kept the vectors of 80 rows; there were 85 before",
        "cut short or altered since, and made again: part-000001.rows",
        "skipped 4 rows (1 NUL, 3 not JSON), listed in out.npy.skipped.jsonl",
    ]
