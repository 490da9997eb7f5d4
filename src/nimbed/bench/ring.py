"""Where contenders take turns, and where their figures are kept."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from nimbed.bench.report import Figure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from nimbed.bench.contenders import Contender, Embeds
    from nimbed.bench.network import Network
    from nimbed.bench.report import Unit
    from nimbed.bench.workloads import Texts


class Ring:
    """The contenders of one run, what they are measured on, and what was found so far.

    Attributes:
        figures: as they came.
        failed: "part, case, contender" -> what went wrong there.
    """

    def __init__(
        self,
        *,
        contenders: Sequence[Contender],
        network: Network,
        texts: Texts,
        max_length: int,
        rounds: int,
        quick: bool,
        progress: bool,
    ) -> None:
        self.contenders = list(contenders)
        self.network = network
        self.texts = texts
        self.max_length = max_length
        self.rounds = rounds
        self.quick = quick
        self._progress = progress
        self.figures: list[Figure] = []
        self.failed: dict[str, str] = {}

    @contextmanager
    def opened(self, max_length: int) -> Iterator[dict[str, Embeds]]:
        """Everyone at once, by label."""
        with ExitStack() as stack:
            yield {c.label: stack.enter_context(c.open(max_length)) for c in self.contenders}

    def turns(
        self,
        part: str,
        case: str,
        measures: Mapping[str, Callable[[], Mapping[str, float]]],
        *,
        units: Mapping[str, Unit],
        lengths: Sequence[int] = (),
        warm: bool = True,
    ) -> None:
        """A B A B: every contender once in each round, so that drift of the machine falls on all alike.

        Args:
            part: of the bench.
            case: the workload; names of several values are put behind it.
            measures: label -> a function that returns values by name ("" for a lone one).
            units: of the values, by name.
            lengths: of the texts in tokens, where a text is what is counted.
            warm: whether a round goes before those that count.
        """
        values: dict[tuple[str, str], list[float]] = {(name, label): [] for name in units for label in measures}
        for number in self.bar(range(-warm, self.rounds), f"{part}, {case}"):
            for label, measure in measures.items():
                found = self._try(f"{part}, {case}, {label}", measure)
                for name, value in found.items() if number >= 0 else ():
                    values[name, label].append(value)
        for (name, label), some in values.items():
            if len(some) == self.rounds:
                self._add(part, f"{case} {name}".strip(), label, units[name], some, lengths)

    def bar(self, items: Iterable[Any], name: str) -> Iterable[Any]:
        """The items, with a progress bar where one is wanted."""
        from tqdm.auto import tqdm

        bar: Iterable[Any] = tqdm(items, desc=name, disable=not self._progress, leave=False)
        return bar

    def _try(self, place: str, measure: Callable[[], Mapping[str, float]]) -> Mapping[str, float]:
        """A contender that fails is left out from then on, and reported."""
        if place in self.failed:
            return {}
        try:
            return measure()
        except Exception as err:  # noqa: BLE001 (contenders are anybody's, and one must not end the others' run)
            self.failed[place] = f"{type(err).__name__}: {err}"
            return {}

    def _add(
        self, part: str, case: str, label: str, unit: Unit, values: Sequence[float], lengths: Sequence[int]
    ) -> None:
        operations = self.network.operations
        count = len(lengths)
        self.figures.append(
            Figure(
                part=part,
                case=case,
                contender=label,
                unit=unit,
                values=values,
                tokens=sum(lengths) / count if count else None,
                operations=operations.of(lengths) / count if count and operations else None,
            )
        )
