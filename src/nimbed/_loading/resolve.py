"""What is opened of a model: an artefact, a build of one, or the model folder itself."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from nimbed._files.digests import Unchanged
from nimbed._loading.artefact import Artefact, open_artefact
from nimbed._loading.auto import choose_precision, with_its_engine
from nimbed._loading.build import find_or_build, make_request
from nimbed._loading.candidate import Candidate, check_task, is_built_in
from nimbed._loading.torchscript import check_allowed, is_torchscript
from nimbed._model_folder.files import model_files
from nimbed._model_folder.network_file import graph_file
from nimbed._model_folder.task_adapters import task_of
from nimbed._model_folder.weights import check_one_encoder
from nimbed._text.tokenizer import load_tokenizer
from nimbed.backends import BACKENDS
from nimbed.backends.table import SCRIPT
from nimbed.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from nimbed._loading.hub import ModelSource
    from nimbed._loading.manifest import Manifest
    from nimbed._loading.settings import Settings
    from nimbed._types import ModelSpec, Precision


@dataclass(frozen=True, kw_only=True)
class Located:
    """A folder that a backend can open.

    ``weights`` is the digest of the network's files that it was made from, ``digest`` that of ``files``, of which the
    backend reads those named ``mapped`` as long as it is open. ``network`` is the file of weights, where it is no
    artefact; ``code`` the TorchScript file in it that may run.
    """

    backend: str
    source: ModelSource
    folder: Path
    spec: ModelSpec
    precision: Precision
    weights: str
    digest: str
    tokenizer: Any
    reasons: dict[str, str]
    files: Unchanged = field(default_factory=lambda: Unchanged({}))
    mapped: tuple[str, ...] = ()
    quality: Mapping[str, Any] | None = None
    network: Path | None = None
    code: Path | None = None


def locate(settings: Settings, found: Candidate) -> Located:
    """What to open of a model, and with which engine.

    Raises:
        ModelNotFoundError: no file holds the network.
        SpecError: it says something that cannot be honoured.
        InputError: the settings contradict it.
    """
    if is_built_in(settings):
        return _built_in(found)
    check_task(settings, found)
    return with_its_engine(found, settings, partial(_locate, settings))


def _locate(settings: Settings, candidate: Candidate) -> Located:
    if candidate.manifest is not None:
        return _from_artefact(settings, candidate, candidate.manifest)
    backend = BACKENDS[candidate.engine]
    network = graph_file(candidate.source.folder, settings.source.file, backend)
    if backend.scripts and is_torchscript(network):
        return _from_script(settings, candidate, network)
    precision, reason = choose_precision(settings.precision, backend, candidate.refused)
    if precision in backend.built:
        return _from_build(settings, candidate, precision, reason)
    check_one_encoder(network)
    return _from_model_folder(candidate, network, precision, reason)


def _built_in(found: Candidate) -> Located:
    from nimbed.backends import fake

    return Located(
        backend="fake",
        source=found.source,
        folder=found.source.folder,
        spec=found.spec,
        precision="fp32",
        weights="fake",
        digest="fake",
        tokenizer=fake.tokenizer(),
        reasons={"backend": "set by the user", "precision": "the fake backend has one"},
    )


def _from_artefact(settings: Settings, candidate: Candidate, manifest: Manifest) -> Located:
    source = candidate.source
    artefact = open_artefact(source.folder, manifest)
    if settings.backend not in {"auto", manifest.engine, "fake"}:
        raise InputError(f"{source.folder} is an artefact for {manifest.engine}, not for backend={settings.backend!r}")
    if settings.precision not in {"auto", manifest.precision}:
        raise InputError(f"{source.folder} is an {manifest.precision} artefact, not {settings.precision}")
    _check_built(settings, source.folder, manifest)
    named = replace(source, name=manifest.source.id, revision=manifest.source.revision)
    return _located(settings, artefact, replace(candidate, source=named), {"precision": "the artefact's own"})


def _check_built(settings: Settings, folder: Path, manifest: Manifest) -> None:
    """What the user says of the network is what the artefact was built with."""
    if settings.spec.pooling not in {None, manifest.spec.pooling}:
        raise InputError(f"{folder} was built with {manifest.spec.pooling} pooling; build another one")
    task = task_of(manifest.spec.adapters)
    if task is not None and settings.spec.task not in {None, task}:
        raise InputError(f"{folder} was built for the task {task}, not for {settings.spec.task!r}; build another one")
    if settings.source.file not in {None, manifest.source.file, *BACKENDS[manifest.engine].files}:
        raise InputError(
            f"{folder} was built from {manifest.source.file}, not from Source(file={settings.source.file!r}); "
            "build another one"
        )


def _from_build(settings: Settings, candidate: Candidate, precision: Precision, reason: str) -> Located:
    request = make_request(candidate, precision, source=settings.source)
    artefact = find_or_build(request)
    # The folder's own prompts and limits are fresher than those of the day of the build.
    return _located(settings, artefact, candidate, {"precision": reason, "artefact": f"built from {request.graph}"})


def _from_script(settings: Settings, candidate: Candidate, network: Path) -> Located:
    """TorchScript is run as it stands."""
    check_allowed(network, settings.source)
    # Neural Compressor, which quantized the Intel/*-int8-static models, leaves its settings beside them.
    precision: Precision = "int8" if (candidate.source.folder / "inc_config.json").is_file() else "fp32"
    if settings.precision not in {"auto", precision}:
        raise InputError(f"{network} is {precision} TorchScript; it cannot run as {settings.precision}")
    located = _from_model_folder(candidate, network, precision, f"that of {network.name}")
    return replace(located, code=network)


def _located(settings: Settings, artefact: Artefact, candidate: Candidate, reasons: dict[str, str]) -> Located:
    code = artefact.folder / SCRIPT if SCRIPT in artefact.manifest.files else None
    if code is not None:
        check_allowed(code, settings.source)
    return Located(
        backend=candidate.engine,
        source=candidate.source,
        folder=artefact.folder,
        spec=candidate.spec,
        precision=artefact.manifest.precision,
        weights=artefact.manifest.source.sha256,
        digest=artefact.manifest.digest,
        tokenizer=load_tokenizer(artefact.folder),
        reasons={**reasons, **_forced(artefact), "backend": candidate.reason},
        files=artefact.unchanged,
        mapped=BACKENDS[artefact.manifest.engine].files[:1],
        quality=artefact.manifest.quality,
        code=code,
    )


def _forced(artefact: Artefact) -> dict[str, str]:
    """A warning, and the reason for it, where the artefact was published although it failed its gate."""
    if not artefact.manifest.forced:
        return {}
    quality = artefact.manifest.quality or {}
    figures = ", ".join(
        f"{name} {quality[name]:.4f} (at least {quality['thresholds'][name]:g})" for name in quality["missed"]
    )
    reason = f"this artefact failed its quality gate and was published by force: {figures}"
    warnings.warn(f"{artefact.folder}: {reason}; quantize the model again, or take fp32", stacklevel=2)
    return {"quality": reason}


def _from_model_folder(candidate: Candidate, network: Path, precision: Precision, reason: str) -> Located:
    """For engines that read the weights themselves."""
    folder, spec = candidate.source.folder, candidate.spec
    inputs = model_files(folder, network, spec)
    files = Unchanged.of([*inputs.weights, *inputs.settings])
    return Located(
        backend=candidate.engine,
        source=candidate.source,
        folder=folder,
        spec=spec,
        precision=precision,
        weights=inputs.weights_sha256,
        digest=inputs.digest,
        files=files,
        mapped=tuple(path.name for path in inputs.weights) if BACKENDS[candidate.engine].compiled else (),
        network=network,
        tokenizer=load_tokenizer(folder),
        reasons={"precision": reason, "backend": candidate.reason},
    )
