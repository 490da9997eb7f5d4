"""The fresh process of :func:`nimbed.bench.measure.fresh`: a contender comes in, its start and its memory go out."""

from __future__ import annotations

import json
import pickle
import sys
import time
from pathlib import Path


def _resident_mb() -> float | None:
    """Resident memory in megabytes, of processes that this one has started too, or None where the system won't tell."""
    lists = Path("/proc/self/task").glob("*/children")
    own = ["self", *(child for one in lists for child in one.read_text().split())]
    status = [Path(f"/proc/{process}/status") for process in own]
    if not status[0].is_file():
        return None
    lines = [line.split() for one in status for line in one.read_text().splitlines()]
    return sum(int(words[1]) for words in lines if words[0] == "VmRSS:") / 1024


def main(started: float) -> None:
    """``started``: ``time.perf_counter()`` before this module was imported, and with it numpy and the bench."""
    contender, documents, max_length = pickle.load(sys.stdin.buffer)  # noqa: S301 (our own parent wrote it)
    with contender.open(max_length) as embeds:
        embeds.encode(["How long does the first vector take?"], role="query")
        found = {"first vector": time.perf_counter() - started}
        embeds.encode(documents)
        resident = _resident_mb()
    if resident is not None:
        found["resident"] = resident
    sys.stdout.write(json.dumps(found) + "\n")
