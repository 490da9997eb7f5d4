"""The fresh process of :func:`nimbed.bench.measure.fresh`: a contender comes in, its start and its memory go out."""

from __future__ import annotations

import pickle
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nimbed._loading.child_process import Report


def _resident_mb() -> float | None:
    """Resident memory in megabytes, with that of processes that this one has started; None where the system is mute."""
    if not Path("/proc/self/status").is_file():
        return None
    children = [child for one in Path("/proc/self/task").glob("*/children") for child in one.read_text().split()]
    return sum(map(_resident_kb, ["self", *children])) / 1024


def _resident_kb(process: str) -> int:
    """0 for a process that has ended meanwhile."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmRSS:")), 0)


def main(payload: bytes, report: Report, began: float) -> int:
    """``began``: ``time.perf_counter()`` before nimbed was imported, and with it numpy and the bench."""
    contender, documents, max_length = pickle.loads(payload)  # noqa: S301 (our own parent wrote it)
    with contender.open(max_length) as embeds:
        embeds.encode(["How long does the first vector take?"], role="query")
        found = {"first vector": time.perf_counter() - began}
        embeds.encode(documents)
        resident = _resident_mb()
    if resident is not None:
        found["resident"] = resident
    report(**found)
    return 0
