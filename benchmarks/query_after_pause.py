"""A lone query after a pause, as users send it: the default threads beside one thread, beside another build, in turns.

A loop of queries keeps threads awake and caches warm; users' queries come one by one. Every contender answers the same
short questions in each round (A B A B), with a pause before each, and once more beside a process that spins on another
core. A ratio is the median over pairs: the same question, in the same round. Exits with 1 where a gate fails.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import _common
import _query_worker
import numpy as np

from nimbed.evaluate import markdown

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Mapping, Sequence

    Measure = Callable[[Sequence[str], float], list[float]]

# pause in ms -> queries of a round
PAUSES = {0: 50, 1: 50, 5: 40, 20: 40, 100: 16, 1000: 5}
BESIDE = {0: 50, 5: 40, 20: 40, 100: 16}
SHORT = range(6, 14)  # tokens: so alike that the spread of their times is not that of their lengths
DEFAULT, ONE = "default threads", "one thread"
OTHER_DEFAULT, OTHER_ONE = "other build, default threads", "other build, one thread"
PEER = "ONNX Runtime int8"
QUIET, SPINNER = "", "beside a spinner"

MAX_OF_ONE = 1.05
MAX_OF_OTHER_ONE = 0.85  # after 20 ms
MAX_OF_OTHER_IN_A_LOOP = 1.0
MAX_P90 = 1.5
IDLE_S = 2.0
MAX_IDLE_CPU_S = 0.005


@dataclass(frozen=True, kw_only=True)
class Found:
    """What was measured.

    Attributes:
        times: (surroundings, pause in ms) -> contender -> ms of every query, round after round.
        idle_cpu_s: CPU time that this process took in two seconds without a query.
    """

    times: dict[tuple[str, int], dict[str, list[float]]] = field(default_factory=dict)
    idle_cpu_s: float = 0.0

    def ratio(self, surroundings: str, pause: int, first: str, second: str) -> float | None:
        """Median over the pairs of one contender's time in another's; None where either was not measured."""
        took = self.times.get((surroundings, pause), {})
        return float(np.median(np.divide(took[first], took[second]))) if {first, second} <= set(took) else None


def main() -> int:
    options = arguments()
    queries = short_questions(options.model)
    conditions = _common.conditions(
        rounds=options.rounds,
        query_tokens=_common.token_lengths(options.model, queries),
        other=str(options.other) if options.other else "none",
    )
    with contenders(options) as measures:
        for measure in measures.values():
            measure(queries, 0)
        found = measured(measures, queries, options)
    print(table(found))
    record = {"conditions": conditions, "idle_cpu_s": found.idle_cpu_s, "figures": figures(found)}
    return _common.finish(options, "query_after_pause", record, judge(found))


def arguments() -> argparse.Namespace:
    parser = _common.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="turns of each contender")
    parser.add_argument("--pauses", type=int, nargs="+", default=list(PAUSES), help="in ms, of those there are")
    parser.add_argument("--other", type=Path, metavar="PYTHON", help="interpreter with another build of nimbed")
    parser.add_argument("--onnx", metavar="FOLDER", help="model folder with onnx/model_int8.onnx (see peers.py)")
    parser.add_argument("--no-spinner", action="store_true", help="leave out the rounds beside a spinning process")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.pauses = 2, [pause for pause in options.pauses if pause <= 20]
    return options


def short_questions(model: str) -> list[str]:
    """Those of the examples that have 6 to 13 tokens."""
    asked = _common.questions()
    return [q for q in asked if _common.token_lengths(model, [q])["max"] in SHORT]


@contextmanager
def contenders(options: argparse.Namespace) -> Iterator[dict[str, Measure]]:
    """By name, all open at once: ours in this process, the other build in one of its own that takes its own time."""
    measures: dict[str, Measure] = {}
    with ExitStack() as stack:
        for name, threads in ((DEFAULT, None), (ONE, 1)):
            encoder = stack.enter_context(_query_worker.open_encoder(options.model, threads))
            measures[name] = partial(_query_worker.timed, encoder.encode_query)
        if options.other:
            measures |= stack.enter_context(other_build(options.other, options.model))
        if options.onnx:
            measures[PEER] = _onnx_runtime(options.onnx)
        yield measures


@contextmanager
def other_build(interpreter: Path, model: str) -> Iterator[dict[str, Measure]]:
    command = [str(interpreter), str(Path(__file__).with_name("_query_worker.py"))]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as worker:

        def measure(name: str, queries: Sequence[str], pause_s: float) -> list[float]:
            pickle.dump((name, list(queries), pause_s), worker.stdin)
            worker.stdin.flush()
            return pickle.load(worker.stdout)

        pickle.dump((model, {OTHER_DEFAULT: None, OTHER_ONE: 1}), worker.stdin)
        yield {name: partial(measure, name) for name in (OTHER_DEFAULT, OTHER_ONE)}
        worker.stdin.close()


def _onnx_runtime(folder: str) -> Measure:
    import _peers

    from nimbed import _machine

    peer = _peers.OnnxRuntime(label=PEER, folder=folder, threads=_machine.thread_plan().threads)
    embed = peer.load(256)
    return partial(_query_worker.timed, lambda query: embed([query], "query"))


def measured(measures: Mapping[str, Measure], queries: Sequence[str], options: argparse.Namespace) -> Found:
    """Everyone takes turns at every pause; then the process idles; then the turns beside a spinner."""
    found = Found(idle_cpu_s=idle_cpu_s())
    plans = {QUIET: PAUSES} if options.no_spinner else {QUIET: PAUSES, SPINNER: BESIDE}
    for surroundings, plan in plans.items():
        with spinner() if surroundings == SPINNER else ExitStack():
            for pause in (pause for pause in options.pauses if pause in plan):
                took: dict[str, list[float]] = {name: [] for name in measures}
                for _ in range(options.rounds):
                    for name, measure in measures.items():
                        took[name] += measure(_repeated(queries, plan[pause]), pause / 1000)
                found.times[surroundings, pause] = took
                shown = ", ".join(f"{name} {median(times):.2f}" for name, times in took.items())
                print(f"  {pause} ms {surroundings}: {shown}", file=sys.stderr)
    return found


def _repeated(queries: Sequence[str], count: int) -> list[str]:
    return [queries[n % len(queries)] for n in range(count)]


def idle_cpu_s() -> float:
    """Right after queries: threads that spin a while and then sleep have a moment for that."""
    time.sleep(0.1)
    before = time.process_time()
    time.sleep(IDLE_S)
    return time.process_time() - before


@contextmanager
def spinner() -> Iterator[None]:
    """A process that takes the last of this process's cores, as another library's thread or another program does."""
    code = "import os, sys\nif len(sys.argv) > 1: os.sched_setaffinity(0, {int(sys.argv[1])})\nwhile True: pass"
    core = [str(max(os.sched_getaffinity(0)))] if hasattr(os, "sched_getaffinity") else []
    with subprocess.Popen([sys.executable, "-c", code, *core]) as process:
        time.sleep(0.3)
        try:
            yield
        finally:
            process.kill()


def figures(found: Found) -> list[dict[str, Any]]:
    """A record for each contender, pause and surroundings, and each pair's ratio."""
    pairs = ((DEFAULT, ONE), (DEFAULT, OTHER_DEFAULT), (DEFAULT, OTHER_ONE), (ONE, OTHER_ONE), (DEFAULT, PEER))
    return [
        {
            "surroundings": surroundings or "quiet",
            "pause_ms": pause,
            "p50_ms": {name: median(times) for name, times in took.items()},
            "p90_ms": {name: float(np.percentile(times, 90)) for name, times in took.items()},
            "ratios": {
                f"{a} in {b}": ratio for a, b in pairs if (ratio := found.ratio(surroundings, pause, a, b)) is not None
            },
        }
        for (surroundings, pause), took in found.times.items()
    ]


def table(found: Found) -> str:
    """p50 / p90 of each contender in ms, then the default threads' ratios."""
    names = list(next(iter(found.times.values())))
    rows = []
    for (surroundings, pause), took in found.times.items():
        cells = [f"{median(times):.2f} / {np.percentile(times, 90):.2f}" for times in took.values()]
        ratios = [f"{found.ratio(surroundings, pause, DEFAULT, name):.2f}" for name in names[1:]]
        rows.append([f"{pause} {surroundings}".strip(), *cells, *ratios])
    header = ["pause, ms", *(f"{name}, p50 / p90" for name in names), *(f"default in {name}" for name in names[1:])]
    return f"{markdown.table(header, rows)}\n\nCPU time of {IDLE_S:.0f} idle seconds: {1000 * found.idle_cpu_s:.1f} ms"


def judge(found: Found) -> dict[str, bool]:
    """The gates, by name; those of a contender or a pause that was not measured are left out."""
    gates = {f"idle for {IDLE_S:.0f} s: no more than 5 ms of CPU time": found.idle_cpu_s <= MAX_IDLE_CPU_S}
    for (surroundings, pause), took in found.times.items():
        after = f"after {pause} ms {surroundings}".strip()
        one = found.ratio(surroundings, pause, DEFAULT, ONE)
        gates[f"{after}: at most {MAX_OF_ONE} of one thread"] = one is not None and one <= MAX_OF_ONE
        if surroundings == QUIET:
            spread = float(np.percentile(took[DEFAULT], 90)) / median(took[DEFAULT])
            gates[f"{after}: p90 at most {MAX_P90} of p50"] = spread <= MAX_P90
    for pause, other, most in ((20, OTHER_ONE, MAX_OF_OTHER_ONE), (0, OTHER_DEFAULT, MAX_OF_OTHER_IN_A_LOOP)):
        if (ratio := found.ratio(QUIET, pause, DEFAULT, other)) is not None:
            gates[f"after {pause} ms: at most {most} of {other}"] = ratio <= most
    return gates


if __name__ == "__main__":
    sys.exit(main())
