"""The native engine's side of the build: numpy and the engine itself, no torch, no OpenVINO, no NNCF.

The network in fp32, as the engine runs it, is the reference; what its products read on the calibration texts says how
their weights are rounded.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nimbed import _machine
from nimbed._loading.progress import unheard
from nimbed._loading.unfinished import unfinished
from nimbed._model_folder.safetensors import write_tensors
from nimbed._native import REVISION
from nimbed.backends import open_backend
from nimbed.backends.native import joined, read_packed
from nimbed.backends.protocol import OpenRequest
from nimbed.backends.table import ENCODER_FILE
from nimbed.quantization.build_result import Built, judged, long_texts, measured_by
from nimbed.quantization.closeness import closeness
from nimbed.quantization.native.layers import in_8_bits
from nimbed.quantization.native.measured import Measured, in_memory, outputs_of, shortest
from nimbed.quantization.native.residual_rotation import can_be_rotated, rotated
from nimbed.quantization.native.second_pass import choose, neighbours, sizes_of
from nimbed.quantization.native.words import in_bf16, in_int8

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from nimbed._loading.build import BuildRequest
    from nimbed._loading.progress import Progress
    from nimbed._loading.unfinished import Unfinished
    from nimbed._types import Float32Array, Int32Array, Role
    from nimbed.quantization.calibration import CalibrationSet
    from nimbed.quantization.native.measured import Outputs
    from nimbed.quantization.native.second_pass import SecondPass

    Arrays = dict[str, np.ndarray[Any, np.dtype[Any]]]
    Settings = dict[str, Any]


# Second moments settle long before all texts are seen, and cost more than the forward pass.
_SEEN_TOKENS = 8192
# What the table of words may add to 1 - cosine where it is kept in fewer bytes.
_TABLE_ERROR = 1.5e-5
# The same of tables of so many words, which are most of what their network takes.
_LARGE_TABLE, _LARGE_TABLE_ERROR = 100_000, 5e-5
# An error that second passes do not try to better, of vectors and of scores; and the multiplications that they may add.
_TARGETS = {"embedding": 3e-4, "scoring": 1e-2}
_BUDGET = 0.25
# Where the error is larger, as many as make it so much of that: some texts' is several times the mean.
_AIM = 1 / 2
# Multiplications that it may take to measure what products add to the error: for a large network, on few of the texts.
_MULTIPLICATIONS = 2.2e13
# Those in fp32 for the texts that this is measured on, and of the comparison: of a large network on every n-th text.
_RANKING, _COMPARING = 1.2e12, 7e12
# Where the gate is missed, second passes are chosen on so many of the calibration texts, those that fare worst: one
# text in hundreds may be far off while the others' mean shows nothing. Of their error a tenth of the target is wanted.
_WORST = 32
# Multiplications in fp32 that finding them may take: of a large network's texts every n-th is looked at.
_SEEKING = 5e12
_WORST_TARGET = 0.1


def make(folder: Path, request: BuildRequest, calibration: CalibrationSet, progress: Progress) -> Built:
    """Round the weights for what the calibration texts show, and measure against fp32.

    Where the gate is missed, the residual stream is rotated if the network allows it and is nearer to fp32 then; and
    where it is missed still, second passes go where they help the texts that fare worst.
    """
    threads = _machine.thread_plan().threads
    made = _all_rounded(request, calibration, progress, threads)
    calibration = calibration.within(_COMPARING / max(one.multiplications for one in made.values()))
    progress("measuring against fp32")
    reference = _reference(request, made, calibration, partial(progress, "measuring against fp32"))
    outputs = _saved(folder, request, made, threads)
    measured = measured_by(request, reference, outputs(calibration.held_out))
    for repair in (_rotated, _chosen_by_the_worst):
        if not request.gate.failures(measured):
            break
        progress("repairing")
        if (repaired := repair(made, request, calibration, threads)) is not made:
            made, outputs = repaired, _saved(folder, request, repaired, threads)
            measured = measured_by(request, reference, outputs(calibration.held_out))
    record = judged(request, measured) | long_texts(request, calibration.held_out)
    progress("saving")
    return Built(
        outputs=outputs,
        calibration=calibration.record,
        quality=record,
        second_pass=_record(made),
        rotated=any(one.rotated for one in made.values()),
        forced=bool(record["missed"]),
    )


def _all_rounded(
    request: BuildRequest, calibration: CalibrationSet, progress: Progress, threads: int
) -> dict[Role, _Rounded]:
    """The network of each role, rounded for what the calibration texts show."""
    roles = sorted(set(request.spec.networks.values()))
    return {
        role: _round(request, role, calibration, _part(progress, number, len(roles)), threads)
        for number, role in enumerate(roles)
    }


def _reference(
    request: BuildRequest,
    made: Mapping[Role, _Rounded],
    calibration: CalibrationSet,
    progress: Callable[[int, int], None],
) -> Float32Array:
    """What the networks compute of the held-out texts in fp32."""
    return _kept(
        _pieces(request),
        "held out",
        lambda: _by_role({role: one.exact() for role, one in made.items()})(calibration.held_out, progress),
    )


def _pieces(request: BuildRequest) -> Unfinished:
    return unfinished(request, f"native {REVISION}")


def _kept(pieces: Unfinished, name: str, outputs: Callable[[], Float32Array]) -> Float32Array:
    """Outputs that are computed once, however often the build is stopped."""
    kept: Float32Array = pieces.kept(name, lambda: {"outputs": outputs()})["outputs"]
    return kept


@dataclass(frozen=True, kw_only=True)
class _Rounded:
    """A role's network: in 8 bits, which products round their inputs twice, and what computes it in fp32."""

    arrays: Arrays
    settings: Settings  # without second passes
    second_pass: SecondPass
    exact: Callable[[], Outputs]  # reads the weights again, which need not be in memory for long
    rotated: bool

    @property
    def multiplications(self) -> int:
        """Of a token, in the products."""
        return sum(_sizes(self.arrays, self.settings).values())


def _round(
    request: BuildRequest,
    role: Role,
    calibration: CalibrationSet,
    progress: Callable[[int, int], None],
    threads: int,
    *,
    rotate: bool = False,
) -> _Rounded:
    pieces = _pieces(request).within(role)
    arrays, settings = _read(request, role)
    progress(0, len(settings["layers"]))
    chosen = shortest(calibration.ranking, _RANKING / sum(_sizes(arrays, settings).values()))
    ranking = [calibration.ranking[at] for at in chosen]
    reference = _kept(pieces, "ranking", lambda: in_memory(arrays, settings, threads)(ranking))
    if rotate:
        pieces = pieces.within("rotated")
        arrays, settings = rotated(arrays, settings)
    measured = Measured(reference=reference, sequences=ranking, threads=threads, pieces=pieces.within("ranking"))
    smaller, settings = _with_smaller_words(arrays, settings, measured.error)
    seen = [*sample(calibration.calibrate, _SEEN_TOKENS - sum(map(len, calibration.long))), *calibration.long]
    rounded = in_8_bits(smaller, settings, seen, threads, pieces, progress)
    settings, target = {**settings, "precision": "int8"}, _TARGETS[request.spec.task]
    return _Rounded(
        arrays=rounded,
        settings=settings,
        second_pass=_chosen(rounded, settings, measured, target, aim=_AIM * target),
        exact=lambda: in_memory(*_read(request, role), threads),
        rotated=rotate,
    )


def _read(request: BuildRequest, role: Role) -> tuple[Arrays, Settings]:
    """A network in fp32."""
    source = Path(request.folder)
    return read_packed(source, source / request.graph, request.spec, role)


def _rotated(
    made: dict[Role, _Rounded], request: BuildRequest, calibration: CalibrationSet, threads: int
) -> dict[Role, _Rounded]:
    """The networks with their residual streams rotated; those that are given where that cannot be, or is no nearer."""
    if not all(can_be_rotated(one.settings) for one in made.values()):
        return made
    others = {role: _round(request, role, calibration, unheard, threads, rotate=True) for role in made}
    return min((made, others), key=lambda ones: max(one.second_pass.error[1] for one in ones.values()))


def _chosen(
    arrays: Arrays, settings: Settings, measured: Measured, target: float, *, aim: float | None = None
) -> SecondPass:
    """The products that round their inputs twice."""
    sizes = _sizes(arrays, settings)
    quick = measured.within(_MULTIPLICATIONS / len(neighbours(sizes)) / (2 * sum(sizes.values())))
    error, quick_error = partial(measured.error, arrays), partial(quick.error, arrays)
    return choose(settings, sizes, error, target=target, budget=_BUDGET, aim=aim, quick=quick_error)


def _sizes(arrays: Arrays, settings: Settings) -> dict[str, int]:
    return sizes_of(settings, {name: values.shape for name, values in arrays.items()})


def _chosen_by_the_worst(
    made: dict[Role, _Rounded], request: BuildRequest, calibration: CalibrationSet, threads: int
) -> dict[Role, _Rounded]:
    """The networks with second passes where they help those calibration texts that fare worst as they are."""
    return {role: _mended(one, role, request, [*calibration.calibrate, *calibration.long], threads)
            for role, one in made.items()}  # fmt: skip


def _mended(
    made: _Rounded, role: Role, request: BuildRequest, sequences: Sequence[Int32Array], threads: int
) -> _Rounded:
    pieces = _pieces(request).within(role)
    sequences = sample(sequences, max(1, int(_SEEKING / made.multiplications)))
    reference = _kept(pieces, "calibrate", lambda: made.exact()(sequences))
    near = closeness(reference, in_memory(made.arrays, made.second_pass.settings, threads)(sequences))
    worst = np.argsort(near, kind="stable")[:_WORST]
    measured = Measured(
        reference=reference[worst],
        sequences=[sequences[at] for at in worst],
        threads=threads,
        pieces=pieces.within("rotated.worst" if made.rotated else "worst"),
    )
    target = _WORST_TARGET * _TARGETS[request.spec.task]
    return replace(made, second_pass=_chosen(made.arrays, made.settings, measured, target))


def _part(progress: Progress, number: int, parts: int) -> Callable[[int, int], None]:
    """Progress of one network among several: layers, of which each has as many."""
    return lambda done, layers: progress("quantizing", number * layers + done, parts * layers)


def sample(sequences: Sequence[Int32Array], tokens: int = _SEEN_TOKENS) -> Sequence[Int32Array]:
    """Every n-th sequence, so that the tokens are about as many as are worth seeing."""
    return sequences[:: max(1, sum(map(len, sequences)) // tokens)]


def _with_smaller_words(
    arrays: Arrays, settings: Settings, error: Callable[[Arrays, Settings], float]
) -> tuple[Arrays, Settings]:
    """The network with its table of words in the fewest bytes that the outputs hardly show: never those of bf16."""
    smallest = ({**arrays, **in_int8(arrays["words"])}, {**settings, "words": "int8"})
    if error(*smallest) <= (_LARGE_TABLE_ERROR if len(arrays["words"]) >= _LARGE_TABLE else _TABLE_ERROR):
        return smallest
    return {**arrays, **in_bf16(arrays["words"])}, {**settings, "words": "bf16"}


def _record(made: Mapping[Role, _Rounded]) -> dict[str, Any] | None:
    """What the manifest says of second passes, the worst of all networks; None where nothing was done."""
    chosen = [one.second_pass for one in made.values() if one.second_pass.products]
    if not chosen:
        return None
    return {
        "products": list(dict.fromkeys(name for one in chosen for name in one.products)),
        "error_before": round(max(one.error[0] for one in chosen), 7),
        "error_after": round(max(one.error[1] for one in chosen), 7),
        "multiplications": round(max(one.multiplications for one in chosen), 4),
    }


def _by_role(outputs: Mapping[Role, Outputs]) -> Outputs:
    """Computes whole texts as documents, and their excerpts, which are the second half, as queries."""
    if len(outputs) == 1:
        return outputs["document"]

    def run(sequences: Sequence[Int32Array], progress: Callable[[int, int], None] = unheard) -> Float32Array:
        half = len(sequences) // 2
        documents = outputs["document"](sequences[:half], progress)
        return np.concatenate([documents, outputs["query"](sequences[half:], progress)])

    return run


def _saved(folder: Path, request: BuildRequest, made: Mapping[Role, _Rounded], threads: int) -> Outputs:
    """Writes the engine's file into the artefact's folder, in place of an earlier one; its outputs."""
    (folder / ENCODER_FILE).unlink(missing_ok=True)  # who has that one mapped keeps it
    arrays, metadata = joined({role: (one.arrays, one.second_pass.settings) for role, one in made.items()})
    write_tensors(folder / ENCODER_FILE, arrays, metadata)
    wanted = OpenRequest(folder=folder, spec=request.spec, precision=request.precision, threads=threads)
    session = open_backend("native", wanted).session()
    return _by_role({role: outputs_of(session.run, role) for role in set(request.spec.networks.values())})
