"""The fresh process of :func:`nimbed.bench.measure.fresh`: a contender comes in, its start and its memory go out."""

from __future__ import annotations

import json
import pickle
import sys
import time
from pathlib import Path


def _resident_mb() -> float | None:
    """Resident memory in megabytes, or None where the system does not tell."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.is_file() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:")), None)


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
