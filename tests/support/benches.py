"""The report of a bench that never ran: every figure is known."""

from __future__ import annotations

from nimbed.bench import BenchReport, Figure
from nimbed.bench.agreement import Agreement


def make_report() -> BenchReport:
    """``fast`` is twice as good as the reference ``slow`` at all it does; nothing of ``a|b`` is here."""
    rows = (
        ("latency", "16 tokens", "fast", "ms", [4.0, 5.0, 9.0]),
        ("latency", "16 tokens", "slow", "ms", [10.0, 10.0, 10.0]),
        ("documents", "natural lengths", "fast", "texts/s", [400.0, 400.0, 401.0]),
        ("documents", "natural lengths", "slow", "texts/s", [200.0, 200.0, 200.0]),
        ("start", "fresh process, resident", "fast", "MB", [150.0]),
    )
    return BenchReport(
        contenders=["fast", "a|b", "slow"],
        figures=[
            Figure(
                part=part,
                case=case,
                contender=label,
                unit=unit,
                values=values,
                tokens=None if unit == "MB" else 16,
                operations=None if unit == "MB" else 5e7,
            )
            for part, case, label, unit, values in rows
        ],
        agreement={"fast": Agreement(worst=0.98, mean=0.995)},
        refused={"a|b": "it computes something else"},
        failed={"served, 64 callers, slow": "RuntimeError: Already borrowed"},
        roof={"fp32": [20.0, 20.0], "int8": [80.0, 100.0, 90.0]},
        conditions={"instruction_sets": ["avx2", "fma"], "versions": {"numpy": "2.0"}, "rounds": 3},
    )
