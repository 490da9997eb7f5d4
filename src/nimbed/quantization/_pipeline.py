"""The build: read or export the network, quantise it, append the head, measure, repair, publish."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import openvino as ov

from nimbed._build import BuildRequest, target_lock
from nimbed._dtypes import save_ranges
from nimbed._pairs import PairTokenizer
from nimbed._tokenize import TextTokenizer, load_tokenizer
from nimbed._versions import versions_of
from nimbed.artefact import Manifest, SourceRecord, file_records, is_artefact, staging, write_manifest
from nimbed.errors import InputError
from nimbed.quantization import _ipex
from nimbed.quantization._built import Built, judged, measured_by
from nimbed.quantization._calibrate import SHIPPED, CalibrationSet, choose, pairs_of, read_texts
from nimbed.quantization._head import append_head
from nimbed.quantization._measure import vectors_of
from nimbed.quantization._network import is_quantised, load_network
from nimbed.quantization._quantise import pack, prepare, quantise
from nimbed.quantization._repair import Workshop, repair

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nimbed._types import Float32Array, Int32Array

STEPS = ("reading the network", "quantising", "measuring against fp32", "repairing", "saving", "publishing")
_LIBRARIES = (
    "nimbed", "openvino", "nncf", "optimum-intel", "intel-extension-for-pytorch", "torch", "transformers", "tokenizers",
)  # fmt: skip


def build(request: BuildRequest, report: Callable[[int], None]) -> None:
    """Publish the artefact that the request describes. ``report`` is told the number of each step that begins."""
    target = Path(request.target)
    with target_lock(target):
        if is_artefact(target):
            return
        if target.exists():
            raise InputError(f"{target} exists and is no artefact; choose another folder")
        with staging(target) as folder:
            _build_in(folder, request, report)
            report(5)


def _build_in(folder: Path, request: BuildRequest, report: Callable[[int], None]) -> None:
    # Settings and tokenizer first: they fail in milliseconds.
    calibration = _calibration(request)
    shutil.copyfile(Path(request.folder) / "tokenizer.json", folder / "tokenizer.json")
    report(0)
    make = _ipex.make if request.engine == "ipex" else _openvino
    built = make(folder, request, calibration, report)
    if built.calibration is not None and request.spec.task == "embedding":
        save_ranges(folder, built.outputs(calibration.calibrate))
    _write_manifest(folder, request, built)


def _openvino(folder: Path, request: BuildRequest, calibration: CalibrationSet, report: Callable[[int], None]) -> Built:
    """A graph with its head, as ``model.xml``."""
    network = load_network(request)
    said: dict[str, Any] = {}
    if is_quantised(network):
        encoder, said = _ready(network, request)
    elif request.precision == "int8":
        encoder, said = _int8(network, calibration, request, report)
    else:
        # Texts that the user gave are for the ranges of the vectors' components.
        encoder = _with_head(network, request)
        said["calibration"] = calibration.record if request.calibration_file else None
    report(4)
    ov.save_model(encoder, folder / "model.xml", compress_to_fp16=False)
    return Built(outputs=lambda sequences: vectors_of(encoder, sequences), **said)


def _with_head(network: ov.Model, request: BuildRequest) -> ov.Model:
    return append_head(network, request.spec, Path(request.folder))


def _ready(network: ov.Model, request: BuildRequest) -> tuple[ov.Model, dict[str, Any]]:
    """A network that its authors quantised is taken as it is."""
    if request.precision != "int8":
        raise InputError(
            f"{Path(request.folder) / request.graph} is quantised already; "
            f"it cannot become an {request.precision} artefact"
        )
    return _with_head(network, request), {"calibration": {"origin": "quantised by the model's authors"}}


def _int8(
    network: ov.Model, calibration: CalibrationSet, request: BuildRequest, report: Callable[[int], None]
) -> tuple[ov.Model, dict[str, Any]]:
    """Quantise, measure, and repair where the gate asks for it."""
    exact = _with_head(network.clone(), request)
    reference = vectors_of(exact, calibration.held_out)

    def measure(encoder: ov.Model) -> dict[str, Any]:
        return measured_by(request, reference, vectors_of(encoder, calibration.held_out))

    report(1)
    prepared = prepare(network, calibration.calibrate)
    encoder = _with_head(quantise(prepared, calibration.calibrate), request)
    report(2)
    measured, record = measure(encoder), None
    if request.gate.failures(measured):
        report(3)
        expected = vectors_of(exact, calibration.ranking)
        shop = _workshop(request, calibration, expected, measure)
        encoder, measured, record = repair(encoder, measured, prepared, shop)
    verdict = judged(request, measured, record)
    kept = {"calibration": calibration.record, "quality": verdict, "repair": record, "forced": bool(verdict["missed"])}
    return pack(encoder), kept


def _workshop(
    request: BuildRequest,
    calibration: CalibrationSet,
    expected: Float32Array,
    measure: Callable[[ov.Model], dict[str, Any]],
) -> Workshop:
    return Workshop(
        gate=request.gate,
        calibrate=calibration.calibrate,
        ranking=calibration.ranking,
        expected=expected,
        head=lambda graph: _with_head(graph, request),
        measure=measure,
    )


def _write_manifest(folder: Path, request: BuildRequest, built: Built) -> None:
    write_manifest(
        folder,
        Manifest(
            engine=request.engine,
            precision=request.precision,
            source=SourceRecord(id=request.name, revision=request.revision, file=request.graph, sha256=request.sha256),
            spec=request.spec,
            key=request.key,
            calibration=built.calibration,
            quality=built.quality,
            repair=built.repair,
            forced=built.forced,
            versions=versions_of(_LIBRARIES),
            files=file_records(folder),
        ),
    )


def _calibration(request: BuildRequest) -> CalibrationSet:
    path = Path(request.calibration_file) if request.calibration_file else None
    return choose(
        read_texts(path, request.text_field),
        _sequences_of(request),
        count=request.calibration_count,
        seed=request.seed,
        origin="the user's texts" if path else SHIPPED,
        others=read_texts(None) if path else (),
    )


def _sequences_of(request: BuildRequest) -> Callable[[Sequence[str]], list[Int32Array]]:
    """Makes token ids of texts; where the network scores, of pairs made from them."""
    spec, tokenizer = request.spec, load_tokenizer(Path(request.folder))
    if spec.task == "scoring":
        pairs = PairTokenizer(tokenizer, spec, max_length=spec.max_length, truncate="silent")
        return lambda texts: pairs(pairs_of(texts, seed=request.seed)).sequences
    single = TextTokenizer(tokenizer, spec, max_length=spec.max_length, truncate="silent")
    return lambda texts: single(texts, spec.prompt("document")).sequences
