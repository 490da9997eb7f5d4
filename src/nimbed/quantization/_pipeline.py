"""The build: read or export the network, quantise it, append the head, measure, publish."""

from __future__ import annotations

import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import openvino as ov

from nimbed._build import BuildRequest, target_lock
from nimbed._pairs import PairTokenizer
from nimbed._tokenize import TextTokenizer, load_tokenizer
from nimbed.artefact import Manifest, SourceRecord, file_records, is_artefact, staging, write_manifest
from nimbed.errors import InputError
from nimbed.quantization._calibrate import SHIPPED, CalibrationSet, choose, pairs_of, read_texts
from nimbed.quantization._head import append_head
from nimbed.quantization._measure import quality, score_quality, vectors_of
from nimbed.quantization._network import is_quantised, load_network
from nimbed.quantization._quantise import quantise

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nimbed._types import Int32Array

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
        measure = score_quality if request.spec.task == "scoring" else quality
        measured = measure(reference, vectors_of(encoder, calibration.held_out))
    record = {"origin": "quantised by the model's authors"} if ready else calibration.record
    write_manifest(
        folder,
        Manifest(
            engine="openvino",
            precision=request.precision,
            source=SourceRecord(id=request.name, revision=request.revision, file=request.graph, sha256=request.sha256),
            spec=request.spec,
            key=request.key,
            calibration=record if request.precision == "int8" else None,
            quality=measured,
            versions=_versions(),
            files=file_records(folder),
        ),
    )


def _calibration(request: BuildRequest) -> CalibrationSet:
    path = Path(request.calibration_file) if request.calibration_file else None
    return choose(
        read_texts(path),
        _sequences_of(request),
        count=request.calibration_count,
        seed=request.seed,
        origin="the user's texts" if path else SHIPPED,
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
