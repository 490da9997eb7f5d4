"""The build: calibration texts chosen, the engine's own part run, the result published."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from nimbed._dtypes import save_ranges
from nimbed._files.digests import sha256_of
from nimbed._loading.artefact import file_records, is_artefact, staging
from nimbed._loading.build import BuildRequest, is_there, longest_text
from nimbed._loading.manifest import Manifest, SourceRecord, write_manifest
from nimbed._loading.target_lock import target_lock
from nimbed._loading.unfinished import held
from nimbed._model_folder.files import model_files
from nimbed._text.pair_tokenizer import pair_tokenizer
from nimbed._text.tokenizer import TextTokenizer, load_tokenizer, save_tokenizer
from nimbed._versions import versions_of
from nimbed.backends import BACKENDS
from nimbed.errors import BuildError, InputError
from nimbed.quantization.calibration import SHIPPED, CalibrationSet, choose, pairs_of, read_texts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nimbed._loading.progress import Progress
    from nimbed._types import Int32Array
    from nimbed.quantization.build_result import Built

_LIBRARIES = (
    "nimbed", "openvino", "nncf", "optimum-intel", "intel-extension-for-pytorch", "torch", "transformers", "tokenizers",
)  # fmt: skip


def build(request: BuildRequest, progress: Progress) -> None:
    """Publish the artefact that the request describes."""
    target = Path(request.target)
    with target_lock(target):
        if is_there(request):
            return
        if target.exists() and not is_artefact(target):
            raise InputError(f"{target} exists and is no artefact; choose another folder")
        with held(request), staging(target) as folder:
            _build_in(folder, request, progress)
            progress("publishing")


def _build_in(folder: Path, request: BuildRequest, progress: Progress) -> None:
    # Settings and tokenizer first: they fail in milliseconds.
    calibration = _calibration(request)
    save_tokenizer(Path(request.folder), folder)
    progress("reading the network")
    # An engine's part needs packages that the others' do not.
    built: Built = import_module(BACKENDS[request.engine].builder).make(folder, request, calibration, progress)
    if built.calibration is not None and request.spec.task == "embedding":
        save_ranges(folder, built.outputs(calibration.calibrate))
    _refuse_changed(request)
    _write_manifest(folder, request, built)


def _refuse_changed(request: BuildRequest) -> None:
    """What was read here must be what was hashed when the build was asked for."""
    folder = Path(request.folder)
    now = model_files(folder, folder / request.graph, request.spec)
    if (now.weights_sha256, now.settings_sha256) != (request.sha256, request.settings_sha256):
        raise BuildError(f"{folder}: its files changed while the artefact was built; build it again")


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
            second_pass=built.second_pass,
            rotated=built.rotated,
            forced=built.forced,
            versions=versions_of(_LIBRARIES),
            files=file_records(folder),
        ),
    )


def _calibration(request: BuildRequest) -> CalibrationSet:
    path = Path(request.calibration_file) if request.calibration_file else None
    texts = read_texts(path, request.text_field)
    if path and sha256_of(path) != request.calibration_sha256:
        raise InputError(f"calibration file {path} was changed while the build began; run it again")
    return choose(
        texts,
        _sequences_of(request),
        count=request.calibration_count,
        seed=request.seed,
        origin="the user's texts" if path else SHIPPED,
        others=read_texts(None) if path else (),
        longest=longest_text(request.engine, request.spec),
    )


def _sequences_of(request: BuildRequest) -> Callable[[Sequence[str]], list[Int32Array]]:
    """Makes token ids of texts; where the network scores, of pairs made from them."""
    spec, tokenizer = request.spec, load_tokenizer(Path(request.folder))
    if spec.task == "scoring":
        pairs = pair_tokenizer(tokenizer, spec, max_length=spec.max_length, truncate="silent")
        return lambda texts: pairs(pairs_of(texts, seed=request.seed)).sequences
    single = TextTokenizer(tokenizer, spec, max_length=spec.max_length, truncate="silent")
    return lambda texts: single(texts, spec.prompt("document")).sequences
