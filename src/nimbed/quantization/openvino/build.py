"""The OpenVINO side of the build: read or export the network, quantize it, append the head, measure, repair."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from nimbed.backends.openvino_api import ov
from nimbed.errors import InputError
from nimbed.quantization.build_result import Built, judged, measured_by
from nimbed.quantization.openvino.exact import vectors_of
from nimbed.quantization.openvino.graph import is_quantized, load_network
from nimbed.quantization.openvino.head import append_head
from nimbed.quantization.openvino.quantize import pack, prepare, quantize_network
from nimbed.quantization.openvino.repair import RepairContext, repair

if TYPE_CHECKING:
    from collections.abc import Callable

    from nimbed._loading.build import BuildRequest
    from nimbed._loading.progress import Progress
    from nimbed._types import Float32Array
    from nimbed.quantization.calibration import CalibrationSet


def make(folder: Path, request: BuildRequest, calibration: CalibrationSet, progress: Progress) -> Built:
    """A graph with its head, as ``model.xml``."""
    network = load_network(request)
    record: dict[str, Any] = {}
    if is_quantized(network):
        encoder, record = _ready(network, request)
    elif request.precision == "int8":
        encoder, record = _int8(network, calibration, request, progress)
    else:
        # Texts that the user gave are for the ranges of the vectors' components.
        encoder = _with_head(network, request)
        record["calibration"] = calibration.record if request.calibration_file else None
    progress("saving")
    ov.save_model(encoder, folder / "model.xml", compress_to_fp16=False)
    return Built(outputs=lambda sequences: vectors_of(encoder, sequences), **record)


def _with_head(network: ov.Model, request: BuildRequest) -> ov.Model:
    return append_head(network, request.spec, Path(request.folder))


def _ready(network: ov.Model, request: BuildRequest) -> tuple[ov.Model, dict[str, Any]]:
    """A network that its authors have quantized already is used as it is."""
    if request.precision != "int8":
        raise InputError(
            f"{Path(request.folder) / request.graph} is quantized already; "
            f"it cannot become an {request.precision} artefact"
        )
    return _with_head(network, request), {"calibration": {"origin": "quantized by the model's authors"}}


def _int8(
    network: ov.Model, calibration: CalibrationSet, request: BuildRequest, progress: Progress
) -> tuple[ov.Model, dict[str, Any]]:
    """Quantize, measure, and repair if the gate is missed."""
    exact = _with_head(network.clone(), request)
    reference = vectors_of(exact, calibration.held_out)

    def measure(encoder: ov.Model) -> dict[str, Any]:
        return measured_by(request, reference, vectors_of(encoder, calibration.held_out))

    progress("quantizing")
    prepared = prepare(network, calibration.calibrate)
    encoder = _with_head(quantize_network(prepared, calibration.calibrate), request)
    progress("measuring against fp32")
    measured, record = measure(encoder), None
    if request.gate.failures(measured):
        progress("repairing")
        expected = vectors_of(exact, calibration.ranking)
        context = _repair_context(request, calibration, expected, measure)
        encoder, measured, record = repair(encoder, measured, prepared, context)
    verdict = judged(request, measured, record)
    kept = {"calibration": calibration.record, "quality": verdict, "repair": record, "forced": bool(verdict["missed"])}
    return pack(encoder), kept


def _repair_context(
    request: BuildRequest,
    calibration: CalibrationSet,
    expected: Float32Array,
    measure: Callable[[ov.Model], dict[str, Any]],
) -> RepairContext:
    return RepairContext(
        gate=request.gate,
        calibrate=calibration.calibrate,
        ranking=calibration.ranking,
        expected=expected,
        head=lambda graph: _with_head(graph, request),
        measure=measure,
    )
