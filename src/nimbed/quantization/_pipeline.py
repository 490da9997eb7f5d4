"""The build: read or export the network, quantise it, append the head, measure, repair, publish."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import openvino as ov

from nimbed._build import BuildRequest, target_lock
from nimbed._dtypes import save_ranges
from nimbed._pairs import PairTokenizer
from nimbed._tokenize import TextTokenizer, load_tokenizer
from nimbed.artefact import Manifest, SourceRecord, file_records, is_artefact, staging, write_manifest
from nimbed.errors import InputError, QualityError
from nimbed.quantization._calibrate import SHIPPED, CalibrationSet, choose, pairs_of, read_texts
from nimbed.quantization._head import append_head
from nimbed.quantization._measure import quality, score_quality, vectors_of
from nimbed.quantization._network import is_quantised, load_network
from nimbed.quantization._quantise import pack, prepare, quantise
from nimbed.quantization._repair import Workshop, repair

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from nimbed._types import Float32Array, Int32Array

STEPS = ("reading the network", "quantising", "measuring against fp32", "repairing", "saving", "publishing")
_LIBRARIES = ("nimbed", "openvino", "nncf", "optimum-intel", "torch", "transformers", "tokenizers")


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


@dataclass(frozen=True, kw_only=True)
class _Built:
    """A graph with its head, ready to be saved, and what the manifest says of it."""

    encoder: ov.Model
    calibration: Mapping[str, Any] | None = None
    quality: Mapping[str, Any] | None = None
    repair: Mapping[str, Any] | None = None
    forced: bool = False


def _build_in(folder: Path, request: BuildRequest, report: Callable[[int], None]) -> None:
    # Settings and tokenizer first: they fail in milliseconds.
    calibration = _calibration(request)
    shutil.copyfile(Path(request.folder) / "tokenizer.json", folder / "tokenizer.json")
    report(0)
    network = load_network(request)
    if is_quantised(network):
        built = _ready(network, request)
    elif request.precision == "int8":
        built = _int8(network, calibration, request, report)
    else:
        # Texts that the user gave are for the ranges of the vectors' components.
        record = calibration.record if request.calibration_file else None
        built = _Built(encoder=_with_head(network, request), calibration=record)
    report(4)
    ov.save_model(built.encoder, folder / "model.xml", compress_to_fp16=False)
    if built.calibration is not None and request.spec.task == "embedding":
        save_ranges(folder, vectors_of(built.encoder, calibration.calibrate))
    _write_manifest(folder, request, built)


def _with_head(network: ov.Model, request: BuildRequest) -> ov.Model:
    return append_head(network, request.spec, Path(request.folder))


def _ready(network: ov.Model, request: BuildRequest) -> _Built:
    """A network that its authors quantised is taken as it is."""
    if request.precision != "int8":
        raise InputError(
            f"{Path(request.folder) / request.graph} is quantised already; "
            f"it cannot become an {request.precision} artefact"
        )
    return _Built(encoder=_with_head(network, request), calibration={"origin": "quantised by the model's authors"})


def _int8(
    network: ov.Model, calibration: CalibrationSet, request: BuildRequest, report: Callable[[int], None]
) -> _Built:
    """Quantise, measure, and repair where the gate asks for it."""
    exact = _with_head(network.clone(), request)
    reference = vectors_of(exact, calibration.held_out)

    def measure(encoder: ov.Model) -> dict[str, Any]:
        outputs = vectors_of(encoder, calibration.held_out)
        if request.spec.task == "scoring":
            return score_quality(reference, outputs)
        return quality(reference, outputs, len(calibration.held_out) // 2)

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
    missed = request.gate.failures(measured)
    if missed and not request.force:
        raise QualityError(_refusal(request, measured, record))
    report_of_it = {**measured, "thresholds": request.gate.of(measured), "missed": sorted(missed)}
    kept = {"calibration": calibration.record, "quality": report_of_it, "repair": record}
    return _Built(encoder=pack(encoder), forced=bool(missed), **kept)


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


def _refusal(request: BuildRequest, measured: Mapping[str, Any], record: Mapping[str, Any] | None) -> str:
    missed = request.gate.failures(measured)
    figures = ", ".join(f"{name} {measured[name]:.4f} (at least {least:g})" for name, least in missed.items())
    tried = f"with {len(record['fp32_layers'])} operations back in fp32 " if record else ""
    return (
        f"int8 of {request.name} is too far from fp32 {tried}on {measured['texts']} held-out texts: {figures}. Nothing "
        "was published. Calibrate on more texts, and on texts like those to be embedded (--calibrate FILE, "
        'calibration=...); or take precision="fp32"; or publish it all the same with --force (force=True)'
    )


def _write_manifest(folder: Path, request: BuildRequest, built: _Built) -> None:
    write_manifest(
        folder,
        Manifest(
            engine="openvino",
            precision=request.precision,
            source=SourceRecord(id=request.name, revision=request.revision, file=request.graph, sha256=request.sha256),
            spec=request.spec,
            key=request.key,
            calibration=built.calibration,
            quality=built.quality,
            repair=built.repair,
            forced=built.forced,
            versions=_versions(),
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


def _versions() -> dict[str, str]:
    found: dict[str, str] = {}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
