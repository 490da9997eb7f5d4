"""The build: read or export the network, quantise it, append the head, measure, publish."""

from __future__ import annotations

import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import openvino as ov

from nimbed._build import BuildRequest, target_lock
from nimbed._machine import thread_plan
from nimbed._tokenize import TextTokenizer, load_tokenizer
from nimbed._types import OpenRequest, TokenBatch
from nimbed.artefact import Manifest, SourceRecord, file_records, is_artefact, staging, write_manifest
from nimbed.backends import open_backend
from nimbed.errors import BuildError, InputError
from nimbed.quantization._calibrate import SHIPPED, CalibrationSet, choose, read_texts
from nimbed.quantization._head import append_head
from nimbed.quantization._network import is_quantised, load_network
from nimbed.quantization._quantise import quantise

if TYPE_CHECKING:
    from collections.abc import Callable

    from nimbed._types import Float32Array

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
    quality = None
    if request.precision == "int8" and not ready:
        reference = _vectors_of(network.clone(), request, calibration, folder)
        report(1)
        network = quantise(network, calibration.calibrate)
    report(2)
    _save(append_head(network, request.spec, source), folder)
    if request.precision == "int8" and not ready:
        report(3)
        quality = _quality(reference, _run(folder, request, calibration))
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
            quality=quality,
            versions=_versions(),
            files=file_records(folder),
        ),
    )


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


def _save(model: ov.Model, folder: Path) -> None:
    ov.save_model(model, folder / "model.xml", compress_to_fp16=False)


def _vectors_of(network: ov.Model, request: BuildRequest, calibration: CalibrationSet, folder: Path) -> Float32Array:
    """The held-out texts' vectors in fp32, through the same head and engine."""
    _save(append_head(network, request.spec, Path(request.folder)), folder)
    vectors = _run(folder, request, calibration)
    for name in ("model.xml", "model.bin"):
        (folder / name).unlink()
    return vectors


def _run(folder: Path, request: BuildRequest, calibration: CalibrationSet) -> Float32Array:
    opened = open_backend(
        "openvino",
        OpenRequest(folder=folder, spec=request.spec, precision=request.precision, threads=thread_plan().threads),
    )
    session = opened.session()
    vectors = np.concatenate([session.run(TokenBatch.from_sequences([s])) for s in calibration.held_out])
    opened.close()
    if not np.isfinite(vectors).all():
        raise BuildError(f"{request.name} in {request.precision} gives vectors that are not finite")
    return vectors


def _quality(reference: Float32Array, vectors: Float32Array) -> dict[str, Any]:
    """Cosines between the artefact's vectors and the fp32 ones of the held-out texts."""
    norms = np.linalg.norm(reference, axis=1) * np.linalg.norm(vectors, axis=1)
    cosines = (reference * vectors).sum(axis=1) / np.maximum(norms, 1e-12)
    return {
        "texts": len(cosines),
        "mean_cosine": round(float(cosines.mean()), 6),
        "min_cosine": round(float(cosines.min()), 6),
    }


def _versions() -> dict[str, str]:
    found: dict[str, str] = {}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
