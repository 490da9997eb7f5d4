"""What an engine's build delivers, and the judgement of its quality."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nimbed._loading.build import SHORT, longest_text
from nimbed.errors import QualityError
from nimbed.quantization.closeness import quality, score_quality

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from nimbed._loading.build import BuildRequest
    from nimbed._types import Float32Array, Int32Array


@dataclass(frozen=True, kw_only=True)
class Built:
    """A network with its head, saved in the artefact's folder, and its entries in the manifest.

    ``second_pass`` says which products round their inputs twice, ``rotated`` whether the residual stream is in another
    basis. ``outputs`` computes vectors ``[n, dim]`` or scores
    ``[n, 1]`` from token ids.
    """

    outputs: Callable[[Sequence[Int32Array]], Float32Array]
    calibration: Mapping[str, Any] | None = None
    quality: Mapping[str, Any] | None = None
    repair: Mapping[str, Any] | None = None
    second_pass: Mapping[str, Any] | None = None
    rotated: bool = False
    forced: bool = False


def measured_by(request: BuildRequest, reference: Float32Array, outputs: Float32Array) -> dict[str, Any]:
    """The quality report of outputs for the held-out texts, the first half of which are documents."""
    if request.spec.task == "scoring":
        return score_quality(reference, outputs)
    return quality(reference, outputs, len(outputs) // 2)


def long_texts(request: BuildRequest, held_out: Sequence[Int32Array]) -> dict[str, Any]:
    """What the report says of texts that are long, where those measure: how many tokens each has."""
    lengths = sorted(len(sequence) for sequence in held_out if len(sequence) > SHORT)
    return {"long_texts": lengths} if longest_text(request.engine, request.spec) > SHORT else {}


def judged(
    request: BuildRequest, measured: Mapping[str, Any], record: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The report with thresholds, for the manifest.

    Raises:
        QualityError: a threshold is missed, and the request does not force it.
    """
    missed = request.gate.failures(measured)
    if missed and not request.force:
        raise QualityError(_refusal(request, measured, record))
    return {**measured, "thresholds": request.gate.of(measured), "missed": sorted(missed)}


def _refusal(request: BuildRequest, measured: Mapping[str, Any], record: Mapping[str, Any] | None) -> str:
    missed = request.gate.failures(measured)
    figures = ", ".join(f"{name} {measured[name]:.4f} (at least {least:g})" for name, least in missed.items())
    tried = f"with {len(record['fp32_layers'])} operations back in fp32 " if record else ""
    return (
        f"int8 of {request.name} is too far from fp32 {tried}on {measured['texts']} held-out texts: {figures}. Nothing "
        "was published. Calibrate on more texts, and on texts like those to be embedded (--calibrate FILE, "
        'calibration=...); or take precision="fp32"; or publish it all the same with --force (force=True)'
    )
