"""How far a build is: what its process tells, how long the rest will take, and what is shown of it."""

from __future__ import annotations

import logging
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

logger = logging.getLogger("nimbed")

T = TypeVar("T")
Stage = Literal[
    "reading the network", "quantizing", "measuring against fp32", "repairing", "saving", "publishing"
]  # fmt: skip
# Parts of the whole time, in the order of the stages: as measured with the native engine, whose stages have parts that
# can be counted. Repairs are rare, and nobody knows how long they take.
SHARES: Final[dict[Stage, float]] = {
    "reading the network": 0.02,
    "quantizing": 0.44,
    "measuring against fp32": 0.38,
    "repairing": 0.0,
    "saving": 0.15,
    "publishing": 0.01,
}
_MAX_SHOWN = 200  # layers; more are tokens
_LOG_EVERY_S = 5.0


class Progress(Protocol):
    """Told that a stage begins, or that some of its parts, which take about equally long, are done."""

    def __call__(self, stage: Stage, done: int = 0, total: int = 0) -> None: ...


def unheard(_done: int, _total: int) -> None:
    """Progress that nobody hears of."""


def counted(items: Iterable[T], sizes: Sequence[int], progress: Callable[[int, int], None]) -> Iterator[T]:
    """The items, with word of how much of the sum of their sizes there is by now."""
    done, total = 0, sum(sizes)
    for item, size in zip(items, sizes, strict=True):
        yield item
        progress(done := done + size, total)


@dataclass(frozen=True, kw_only=True)
class Step:
    """What a build's process tells: of a stage so many parts are done; a total of 0 where they are not counted."""

    stage: Stage
    done: int
    total: int

    @property
    def fraction(self) -> float:
        """Of the whole build, 0 to 1, by the time that stages usually take."""
        names = list(SHARES)
        before = [SHARES[name] for name in names[: names.index(self.stage)]]
        return sum([*before, SHARES[self.stage] * self.within])  # summed as the next stage sums it, rounding included

    @property
    def within(self) -> float:
        """Of its stage, 0 to 1."""
        return self.done / self.total if self.total else 0.0

    def __str__(self) -> str:
        if not self.total:
            return self.stage
        said = f"{self.done} of {self.total}" if self.total <= _MAX_SHOWN else f"{self.within:.0%}"
        return f"{self.stage}, {said}"


class TimeLeft:
    """Estimates the time that a build still takes, from the time that the counted parts took."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._stage: Stage | None = None
        self._began = 0.0
        self._pace: float | None = None  # seconds for the whole, at the speed of the parts that were counted

    def after(self, step: Step) -> float | None:
        """Seconds, or None where nothing was counted yet, or where a repair will take nobody knows how long."""
        now = self._clock()
        if step.stage != self._stage:
            self._stage, self._began = step.stage, now
        if step.stage == "repairing":
            self._pace = None
        elif step.within > 0 and SHARES[step.stage] > 0:
            self._pace = (now - self._began) / (SHARES[step.stage] * step.within)
        return None if self._pace is None else self._pace * (1 - step.fraction)


def in_words(seconds: float | None) -> str:
    """What is said of it: no more precise than it is."""
    if seconds is None:
        return ""
    if seconds < 5:
        return ", a few seconds left"
    return f", about {5 * round(seconds / 5)} s left" if seconds < 90 else f", about {round(seconds / 60)} min left"


def shown(reports: Iterable[dict[str, Any]], name: str, *, bar: bool) -> Iterator[dict[str, Any]]:
    """Show and log how far a build is, and pass on what else its process reports.

    In a terminal and in a notebook a bar is drawn; where standard error is a file or a pipe, as a container's is, it
    gets lines.
    """
    from tqdm.auto import tqdm

    seen = bar and sys.stderr is not None  # programs without a console have none
    drawable = seen and (sys.stderr.isatty() or any(one.__module__ == "tqdm.notebook" for one in tqdm.__mro__))
    left, line = TimeLeft(), _Lines(name, printed=seen and not drawable)
    shape = "{desc} {percentage:3.0f}%|{bar}| {elapsed}{postfix}"
    with tqdm(total=1.0, desc=name, bar_format=shape, disable=not drawable) as drawn:
        for event in reports:
            if event["kind"] != "progress":
                yield event
                continue
            step = Step(stage=event["stage"], done=event["done"], total=event["total"])
            said = f"{step}{in_words(left.after(step))}"
            line.log(step, said)
            drawn.set_postfix_str(said, refresh=False)
            drawn.n = max(drawn.n, step.fraction)
            drawn.refresh()


class LayersDone:
    """How many layers of a network a build has rounded, and of how many; empty in words where they are not counted."""

    def __init__(self) -> None:
        self._done = self._total = 0

    def counted(self, reports: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """The reports as they come."""
        for event in reports:
            if event["kind"] == "progress" and event["stage"] == "quantizing":
                self._done, self._total = event["done"], event["total"]
            yield event

    def __str__(self) -> str:
        return f": {self._done} of {self._total} layers are done" if self._total else ""


class _Lines:
    """Lines of the log, and of standard error: one when a stage begins, and one every few seconds."""

    def __init__(self, name: str, *, printed: bool) -> None:
        self._name, self._printed = name, printed
        self._stage: Stage | None = None
        self._last = 0.0

    def log(self, step: Step, said: str) -> None:
        now = time.monotonic()
        if step.stage != self._stage or now - self._last >= _LOG_EVERY_S:
            logger.info("%s: %s", self._name, said)
            if self._printed:
                sys.stderr.write(f"{self._name}: {said}\n")
                sys.stderr.flush()
            self._stage, self._last = step.stage, now
