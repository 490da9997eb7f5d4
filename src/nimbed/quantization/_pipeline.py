"""The build: read or export the network, quantise it, append the head, measure, publish."""

from __future__ import annotations

import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import openvino as ov

from nimbed._build import BuildRequest, target_lock
from nimbed._dtypes import save_ranges
from nimbed._tokenize import TextTokenizer, load_tokenizer
from nimbed.artefact import Manifest, SourceRecord, file_records, is_artefact, staging, write_manifest
from nimbed.errors import InputError
from nimbed.quantization._calibrate import SHIPPED, CalibrationSet, choose, read_texts
from nimbed.quantization._head import append_head
from nimbed.quantization._measure import quality, vectors_of
from nimbed.quantization._network import is_quantised, load_network
from nimbed.quantization._quantise import quantise

if TYPE_CHECKING:
    from collections.abc import Callable

STEPS = ("reading the network", "quantising", "saving", "measuring against fp32", "publishing")
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
            report(4)


def _build_in(folder: Path, request: BuildRequest, report: Callable[[int], None]) -> None:
    source = Path(request.folder)
    # Settings and tokenizer first: they fail in milliseconds.
    calibration = _calibration(request)
    shutil.copyfile(source / "tokenizer.json", folder / "tokenizer.json")
    report(0)
    network = load_network(request)
    ready = is_quantised(network)
    if ready and request.precision != "int8":
        raise InputError(
            f"{source / request.graph} is quantised already; it cannot become an {request.precision} artefact"
        )
    measured = None
    if request.precision == "int8" and not ready:
        reference = vectors_of(append_head(network.clone(), request.spec, source), calibration.held_out)
        report(1)
        network = quantise(network, calibration.calibrate)
    encoder = append_head(network, request.spec, source)
    report(2)
    ov.save_model(encoder, folder / "model.xml", compress_to_fp16=False)
    if request.precision == "int8" and not ready:
        report(3)
        measured = quality(reference, vectors_of(encoder, calibration.held_out))
    if _is_calibrated(request):
        save_ranges(folder, vectors_of(encoder, calibration.calibrate))
    write_manifest(
        folder,
        Manifest(
            engine="openvino",
            precision=request.precision,
            source=SourceRecord(id=request.name, revision=request.revision, file=request.graph, sha256=request.sha256),
            spec=request.spec,
            key=request.key,
            calibration=_record(request, calibration, ready=ready),
            quality=measured,
            versions=_versions(),
            files=file_records(folder),
        ),
    )


def _is_calibrated(request: BuildRequest) -> bool:
    """int8 always is; fp32 where the user gives texts, for the ranges of int8 vectors alone."""
    return request.precision == "int8" or request.calibration_file is not None


def _record(request: BuildRequest, calibration: CalibrationSet, *, ready: bool) -> dict[str, object] | None:
    if not _is_calibrated(request):
        return None
    return {"origin": "quantised by the model's authors"} if ready else calibration.record


def _calibration(request: BuildRequest) -> CalibrationSet:
    tokenizer = TextTokenizer(
        load_tokenizer(Path(request.folder)), request.spec, max_length=request.spec.max_length, truncate="silent"
    )
    path = Path(request.calibration_file) if request.calibration_file else None
    return choose(
        read_texts(path),
        lambda texts: tokenizer(texts, request.spec.prompt("document")).sequences,
        count=request.calibration_count,
        seed=request.seed,
        origin="the user's texts" if path else SHIPPED,
    )


def _versions() -> dict[str, str]:
    found: dict[str, str] = {}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
