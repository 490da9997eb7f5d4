"""Which batch shapes suit this machine: candidates alternate on the real engine, and the fastest is kept.

Only shapes are tuned. They change speed, and no vector by more than its last bits.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Literal, cast

from tqdm.auto import tqdm

from nimbed import _machine
from nimbed._loading.artefact import open_artefact
from nimbed._loading.engine import open_engine
from nimbed._loading.profile import Profile, write_profile
from nimbed._loading.settings import Settings
from nimbed._serving.scheduler import Scheduler
from nimbed._text.checks import check_model
from nimbed.backends import open_backend
from nimbed.backends.protocol import OpenRequest
from nimbed.backends.shapes import Tuning
from nimbed.bench import shipped_texts

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike

    from nimbed._loading.engine import Engine
    from nimbed._text.tokenizer import TextTokenizer
    from nimbed._types import Int32Array, Role
    from nimbed.bench import Texts

    Kind = Literal["documents", "queries"]

__all__ = ["TuneReport", "tune"]

CANDIDATES: dict[Kind, tuple[int, ...]] = {"documents": (256, 512, 1024, 2048), "queries": (16, 32, 48)}
_FIELDS: dict[Kind, str] = {"documents": "tokens_per_thread", "queries": "least_alone"}
_ROLES: dict[Kind, Role] = {"documents": "document", "queries": "query"}
_SAMPLE: dict[Kind, int] = {"documents": 64, "queries": 60}
_LEAST_ROUNDS = 5
# A smaller gain, or a gain in fewer of the rounds, is noise: the default stays.
_WORTH, _SURE = 1.03, 0.8


@dataclass(frozen=True, kw_only=True)
class TuneReport:
    """What was tried, and what is kept.

    Attributes:
        tuning: the winners together.
        seconds: "documents" or "queries" -> candidate -> seconds of each round; the default is the first.
        path: the profile's file.
    """

    tuning: Tuning
    seconds: dict[Kind, dict[str, list[float]]]
    path: Path

    def to_markdown(self) -> str:
        """One line for each candidate: how many times as fast as the default it is."""
        lines = ["| | candidate | times the default's speed | rounds |", "|---|---|---|---|"]
        for kind, candidates in self.seconds.items():
            default = next(iter(candidates.values()))
            for name, took in candidates.items():
                lines.append(f"| {kind} | {name} | {_gain(default, took):.3f} | {len(took)} |")
        return "\n".join([*lines, "", f"kept: {self.tuning}", f"written: {self.path}"]) + "\n"


def tune(
    model: str | PathLike[str],
    *,
    threads: int | None = None,
    seconds: float = 50.0,
    texts: Texts | None = None,
    progress: bool = False,
) -> TuneReport:
    """Measure batch shapes for a model on this machine; encoders that are opened from then on use the best ones.

    A candidate replaces the default if it is 3 % faster in the median of its rounds, and faster in four of five of
    them. The profile is valid for this artefact, this CPU and this number of threads.

    Args:
        model: hub id, model folder or artefact folder; its artefact is built if it is missing.
        threads: threads of the engine; None takes what ``nimbed doctor`` says.
        seconds: how long measuring may take, without opening the model.
        texts: the texts to embed; None takes those that nimbed ships.
        progress: show a progress bar on standard error.

    Raises:
        ArtefactError: the profile cannot be written.
    """
    engine = open_engine(
        Settings(model=check_model(model), backend="openvino", threads=threads, truncate="silent", cache=None)
    )
    info = engine.info
    tuner = _Tuner(engine, texts or shipped_texts())
    engine.backend.close()
    found: dict[Kind, dict[str, list[float]]] = {}
    best = tuner.default
    for kind, field in _FIELDS.items():
        default = getattr(tuner.default, field)
        values = [default, *(value for value in CANDIDATES[kind] if value != default)]
        tunings = [replace(tuner.default, **{field: value}) for value in values]
        took = tuner.rounds(kind, tunings, seconds / len(_FIELDS), progress=progress)
        found[kind] = {f"{field}={value}": some for value, some in zip(values, took, strict=True)}
        best = replace(best, **{field: values[_winner(took)]})
    measured = {"cpu": _machine.cpu().model, "engine": info.backend_version, "seconds": found}
    digest = open_artefact(Path(info.artefact)).manifest.digest
    path = write_profile(Profile(tuning=best, measured=measured), digest, info.threads)
    return TuneReport(tuning=best, seconds=found, path=path)


class _Tuner:
    """The texts as tokens, and the engine opened once for each candidate."""

    def __init__(self, engine: Engine, texts: Texts) -> None:
        info, artefact = engine.info, open_artefact(Path(engine.info.artefact))
        self._request = OpenRequest(
            folder=artefact.folder,
            spec=replace(engine.spec, max_length=info.max_length),
            precision=info.precision,
            threads=info.threads,
        )
        self._dim = engine.spec.dim
        plain = open_backend("openvino", self._request)
        self.default = Tuning(least_alone=plain.shapes.least_alone)
        plain.close()
        tokenizer = cast("TextTokenizer", engine.tokenizer)  # vectors come out, no scores
        self._sequences = {
            kind: tokenizer(getattr(texts, kind)[: _SAMPLE[kind]], engine.spec.prompt(role)).sequences
            for kind, role in _ROLES.items()
        }

    def rounds(self, kind: Kind, tunings: Sequence[Tuning], seconds: float, *, progress: bool) -> list[list[float]]:
        """Seconds of each round, A B C A B C, as many rounds as there is time for, after one that does not count."""
        backends = [open_backend("openvino", replace(self._request, tuning=t)) for t in tunings]
        schedulers = [Scheduler(b.session(), b.shapes, b.bulk(), self._dim, on_batch=lambda _: None) for b in backends]
        for scheduler in schedulers:
            scheduler.start()
        role = _ROLES[kind]
        runs = [partial(_run, scheduler, self._sequences[kind], role) for scheduler in schedulers]
        took: list[list[float]] = [[run()] for run in runs]
        started = time.perf_counter()
        with tqdm(total=round(seconds), desc=kind, unit="s", disable=not progress, leave=False) as bar:
            while len(took[0]) <= _LEAST_ROUNDS or time.perf_counter() - started < seconds:
                for run, some in zip(runs, took, strict=True):
                    some.append(run())
                bar.update(round(time.perf_counter() - started) - bar.n)
        for scheduler, backend in zip(schedulers, backends, strict=True):
            scheduler.close()
            backend.close()
        return [some[1:] for some in took]


def _run(scheduler: Scheduler, sequences: Sequence[Int32Array], role: Role) -> float:
    """Seconds for all sequences: documents in one call, queries one after another."""
    started = time.perf_counter()
    for some in [sequences] if role == "document" else [[sequence] for sequence in sequences]:
        scheduler.submit(some, role).result()
    return time.perf_counter() - started


def _gain(default: Sequence[float], took: Sequence[float]) -> float:
    """How many times as fast as the default, by the medians."""
    return median(default) / median(took)


def _winner(took: Sequence[Sequence[float]]) -> int:
    """Number of the fastest candidate, or 0 (the default) if none is surely faster."""
    default = took[0]
    sure = [0]
    for number, some in enumerate(took):
        faster = sum(theirs < ours for theirs, ours in zip(some, default, strict=True))
        if _gain(default, some) >= _WORTH and faster >= _SURE * len(some):
            sure.append(number)
    return max(sure, key=lambda number: _gain(default, took[number]))
