"""The parts of a bench: each takes the ring through its workloads."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from nimbed import _machine
from nimbed.bench import measure
from nimbed.bench.workloads import BATCH_TOKENS, BATCHES, LENGTHS
from nimbed.evaluate.settings import Setting

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from nimbed.bench.report import Unit
    from nimbed.bench.ring import Ring

_TEXTS_OF_A_LENGTH = 12
_SERVED_ROUNDS = 8


def latency(ring: Ring) -> None:
    """One text at a time: of fixed lengths; of natural ones in a loop, and as they come at first."""
    longest, queries = min(max(LENGTHS), ring.network.longest), list(ring.texts.queries)
    lengths = [n for n in (LENGTHS[1::2] if ring.quick else LENGTHS) if n <= longest]
    cases = {f"{n} tokens": ring.network.exact(n, _TEXTS_OF_A_LENGTH, ring.texts.documents) for n in lengths}
    cases["natural lengths, seen before"] = queries
    with ring.opened(max(longest, ring.max_length)) as everyone:
        for case, texts in cases.items():
            measures = {label: partial(_alone, measure.latency_ms, embeds, texts) for label, embeds in everyone.items()}
            ring.turns("latency", case, measures, units={"": "ms"}, lengths=ring.network.lengths(texts, longest))
    first = {c.label: partial(measure.first_seen_ms, c, queries, ring.max_length) for c in ring.contenders}
    _queries(ring, "latency", "as they come,", first, ("p50", "p99"), warm=False)


def pauses(ring: Ring) -> None:
    """Queries of natural length with a pause before each, as users send them."""
    with ring.opened(ring.max_length) as everyone:
        measures = {label: partial(measure.paused_ms, embeds, ring.texts.queries) for label, embeds in everyone.items()}
        _queries(ring, "pauses", f"{1000 * measure.PAUSE_S:.0f} ms apart,", measures, ("p50", "p90"))


def _queries(
    ring: Ring,
    part: str,
    case: str,
    measures: Mapping[str, Callable[[], dict[str, float]]],
    shares: tuple[str, str],
    *,
    warm: bool = True,
) -> None:
    lengths = ring.network.lengths(ring.texts.queries, ring.max_length)
    units: dict[str, Unit] = dict.fromkeys(shares, "ms")
    ring.turns(part, f"natural lengths, {case}", measures, units=units, lengths=lengths, warm=warm)


def documents(ring: Ring) -> None:
    """Documents of natural length in one call."""
    _throughput(ring, "documents", {"natural lengths": list(ring.texts.documents)})


def batches(ring: Ring) -> None:
    """Calls with so many texts of one length."""
    sizes = BATCHES[:4:3] if ring.quick else BATCHES
    tokens = min(BATCH_TOKENS, ring.max_length)
    texts = ring.network.exact(tokens, max(sizes), ring.texts.documents)
    _throughput(ring, "batches", {f"{size} x {tokens} tokens": texts[:size] for size in sizes})


def _throughput(ring: Ring, part: str, cases: dict[str, list[str]]) -> None:
    with ring.opened(ring.max_length) as everyone:
        for case, texts in cases.items():
            measures = {
                label: partial(_alone, measure.texts_per_s, embeds, texts) for label, embeds in everyone.items()
            }
            lengths = ring.network.lengths(texts, ring.max_length)
            ring.turns(part, case, measures, units={"": "texts/s"}, lengths=lengths)


def served(ring: Ring) -> None:
    """64 callers on one event loop, each with one query after the other."""
    repeats = 2 if ring.quick else _SERVED_ROUNDS
    queries = [f"{query} {number}" for number in range(repeats) for query in ring.texts.queries]
    with ring.opened(ring.max_length) as everyone:
        measures = {label: partial(_alone, measure.served_per_s, e, queries) for label, e in everyone.items()}
        lengths = ring.network.lengths(queries, ring.max_length)
        ring.turns("served", f"{measure.CALLERS} callers", measures, units={"": "texts/s"}, lengths=lengths)


def start(ring: Ring) -> None:
    """From nothing to the first vector, and what the process holds after the documents."""
    measures = {c.label: partial(measure.fresh, c, ring.texts.documents, ring.max_length) for c in ring.contenders}
    ring.turns("start", "fresh process,", measures, units={"first vector": "s", "resident": "MB"}, warm=not ring.quick)


def threads(ring: Ring) -> None:
    """The project's own engines on 1, 2, 4, ... threads."""
    most = _machine.thread_plan().threads
    counts = [1 << n for n in range(most.bit_length()) if 1 << n < most] + [most]
    documents = ring.texts.documents[:: 4 if ring.quick else 1]
    lengths = ring.network.lengths(documents, ring.max_length)
    own = [c for c in ring.contenders if isinstance(c, Setting) and c.threads is None]
    for count in counts:
        measures = {c.label: partial(_on_threads, c, count, documents, ring.max_length) for c in own}
        ring.turns("threads", f"{count}, natural lengths", measures, units={"": "texts/s"}, lengths=lengths, warm=False)


def _on_threads(setting: Setting, count: int, documents: Sequence[str], max_length: int) -> dict[str, float]:
    """Opened afresh, so that no two of them hold the cores at once."""
    with replace(setting, threads=count).open(max_length) as encoder:
        encoder.encode(documents)
        return {"": measure.texts_per_s(encoder, documents)}


def _alone(function: Callable[..., float], *arguments: object) -> dict[str, float]:
    return {"": function(*arguments)}
