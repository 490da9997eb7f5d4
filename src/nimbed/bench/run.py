"""All of a bench: who takes part, on what, and what is written down."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nimbed import _machine
from nimbed.backends import BACKENDS
from nimbed.bench import parts as _parts
from nimbed.bench.agreement import agreement, why_refused
from nimbed.bench.conditions import conditions
from nimbed.bench.contenders import own_contenders
from nimbed.bench.network import network_of
from nimbed.bench.report import BenchReport
from nimbed.bench.ring import Ring
from nimbed.bench.roof import ARITHMETIC, Roof
from nimbed.bench.workloads import shipped_texts
from nimbed.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nimbed.bench.agreement import Agreement
    from nimbed.bench.contenders import Contender
    from nimbed.bench.workloads import Texts
    from nimbed.evaluate.settings import Setting

PARTS: dict[str, Callable[[Ring], None]] = {
    "latency": _parts.latency,
    "pauses": _parts.pauses,
    "documents": _parts.documents,
    "batches": _parts.batches,
    "served": _parts.served,
    "start": _parts.start,
    "threads": _parts.threads,
}
_ROOF_PASSES = 5


def bench(
    settings: Sequence[str | Setting | Contender],
    *,
    parts: Sequence[str] = tuple(PARTS),
    texts: Texts | None = None,
    max_length: int = 256,
    rounds: int = 5,
    quick: bool = False,
    progress: bool = False,
) -> BenchReport:
    """Let contenders take turns (A B A B) on the same texts, and measure the machine's roof beside them.

    Every contender embeds the documents first. One whose vectors do not agree with the reference's has no figures. The
    roof is OpenVINO's; where that is not installed, there is none.

    Args:
        settings: as for :func:`nimbed.evaluate.evaluate`, or contenders of your own; a lone model without options
            stands for the engines that run it well here. The last is the reference.
        parts: keys of :data:`PARTS`.
        texts: what is embedded; None takes what nimbed ships.
        max_length: tokens that a text keeps; the latency of fixed lengths goes on to 512, where the network does.
        rounds: counted turns of each contender; one goes before them.
        quick: two rounds, fewer texts and cases: under three minutes for a small model.
        progress: show progress bars on standard error.

    Returns:
        a frozen :class:`BenchReport`.

    Raises:
        InputError: a part, a text or a setting cannot be used.
        NimbedError: what :class:`nimbed.Encoder` raises.
    """
    if unknown := [part for part in parts if part not in PARTS]:
        raise InputError(f"part {unknown[0]!r} is not one of {', '.join(PARTS)}")
    if rounds < 1 or max_length < 1:
        raise InputError(f"rounds={rounds}, max_length={max_length}: whole numbers from 1 on are wanted")
    everyone = own_contenders(settings)
    texts = texts or shipped_texts()
    network = network_of(everyone)
    ring = Ring(
        contenders=everyone,
        network=network,
        texts=texts.fewer(documents=40, queries=30) if quick else texts,
        max_length=min(max_length, network.longest),
        rounds=2 if quick else rounds,
        quick=quick,
        progress=progress,
    )
    return _run(ring, parts, [contender.label for contender in everyone])


def _run(ring: Ring, parts: Sequence[str], labels: Sequence[str]) -> BenchReport:
    under = conditions(ring)
    agreed = _agree(ring)
    refused = {label: why_refused(found) for label, found in agreed.items() if not found.held}
    ring.contenders = [contender for contender in ring.contenders if contender.label not in refused]
    roofs = (
        [Roof(name, _machine.thread_plan().threads) for name in ARITHMETIC] if BACKENDS["openvino"].installed else []
    )
    gops: dict[str, list[float]] = {roof.arithmetic: [] for roof in roofs}
    for part in parts:
        PARTS[part](ring)
        for roof in roofs:
            gops[roof.arithmetic] += [roof.gops() for _ in range(_ROOF_PASSES)]
    return BenchReport(
        contenders=labels,
        figures=ring.figures,
        agreement=agreed,
        refused=refused,
        failed=ring.failed,
        roof=gops,
        conditions=under,
    )


def _agree(ring: Ring) -> dict[str, Agreement]:
    """Everyone's documents beside the reference's."""
    vectors = {}
    for contender in ring.bar(ring.contenders, "agreement"):
        with contender.open(ring.max_length) as embeds:
            vectors[contender.label] = embeds.encode(ring.texts.documents)
    *others, reference = vectors
    return {label: agreement(vectors[label], vectors[reference]) for label in others}
