"""What a job did."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from nimbed.bulk.manifest import PartRecord
    from nimbed.bulk.processes import Choice


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a job did.

    Attributes:
        out: the output.
        rows: that it has.
        width: numbers of a vector.
        computed: rows that this run embedded.
        kept: rows whose vectors an update took from the output of before.
        before: rows that the output of before had, of an update.
        truncated: rows of the output whose texts lost tokens, but for those that were kept.
        skipped: bad rows, by kind of fault.
        skipped_file: where they are listed.
        damaged: files of parts that were cut short or altered since they were written, and were made again.
        seconds: that this run took.
        processes: that made it, and why so many.
    """

    out: Path
    rows: int
    width: int
    computed: int
    kept: int
    before: int
    truncated: int
    skipped: Mapping[str, int]
    skipped_file: Path | None
    damaged: tuple[str, ...]
    seconds: float
    processes: Choice

    def describe(self) -> str:
        """For a person."""
        rate = f", {self.computed / self.seconds:.0f} a second" if self.computed else ""
        lines = [f"{self.out}: {self.rows} x {self.width}, {self.truncated} texts truncated"]
        lines.append(f"computed {self.computed} rows in {self.seconds:.1f} s{rate}")
        if self.computed:
            count = self.processes.processes
            lines.append(f"by {count} process{'' if count == 1 else 'es'}: {self.processes.reason}")
        if self.kept:
            lines.append(f"kept the vectors of {self.kept} rows; there were {self.before} before")
        if self.damaged:
            lines.append(f"cut short or altered since, and made again: {', '.join(self.damaged)}")
        if self.skipped:
            why = ", ".join(f"{count} {kind}" for kind, count in sorted(self.skipped.items()))
            lines.append(f"skipped {sum(self.skipped.values())} rows ({why}), listed in {self.skipped_file}")
        return "\n".join(lines)


def skipped_in(records: Iterable[PartRecord]) -> dict[str, int]:
    """Of all parts, by kind of fault."""
    found: Counter[str] = Counter()
    for record in records:
        found.update(record.skipped)
    return dict(found)
