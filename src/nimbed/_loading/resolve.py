"""Where a model is, and what is opened of it: an artefact, a build of one, or the model folder itself."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nimbed._files.digests import Unchanged
from nimbed._files.places import expanded
from nimbed._loading.artefact import Artefact, is_artefact, open_artefact
from nimbed._loading.auto import choose_for, choose_precision
from nimbed._loading.build import find_or_build, make_request
from nimbed._loading.hub import ModelSource, resolve
from nimbed._loading.manifest import read_manifest
from nimbed._loading.torchscript import check_allowed, is_torchscript
from nimbed._model_folder.files import model_files
from nimbed._model_folder.network import check_one_encoder, read_shape
from nimbed._model_folder.network_file import graph_file
from nimbed._text.tokenizer import load_tokenizer
from nimbed.backends import BACKENDS
from nimbed.backends.table import SCRIPT
from nimbed.errors import InputError, QualityError, SpecError
from nimbed.spec import read_spec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nimbed._loading.manifest import Manifest
    from nimbed._loading.settings import Settings
    from nimbed._types import ModelSpec, Precision, Task


@dataclass(frozen=True, kw_only=True)
class Located:
    """A folder that a backend can open.

    ``digest`` is that of ``files``, of which the backend reads those named ``mapped`` as long as it is open.
    ``network`` is the file of weights, where it is no artefact; ``code`` the TorchScript file in it that may run.
    """

    backend: str
    source: ModelSource
    folder: Path
    spec: ModelSpec
    precision: Precision
    digest: str
    tokenizer: Any
    reasons: dict[str, str]
    files: Unchanged = field(default_factory=lambda: Unchanged({}))
    mapped: tuple[str, ...] = ()
    quality: Mapping[str, Any] | None = None
    network: Path | None = None
    code: Path | None = None


def locate(settings: Settings) -> Located:
    """What to open, and with which engine.

    Raises:
        ModelNotFoundError: no such folder or hub model.
        SpecError: it says something that cannot be honoured.
        InputError: the settings contradict it.
    """
    if _is_built_in(settings):
        return _built_in(settings)
    if settings.backend == "auto":
        source, reason = choose_for(
            settings.model, source=settings.source, precision=settings.precision, overrides=settings.spec
        )
    else:
        source, reason = _resolved(settings, settings.backend), "set by the user"
    try:
        located = _locate(settings, source)
    except QualityError as err:
        if settings.backend != "auto" or source.engine != "native":
            raise
        reason = f"the native engine's int8 failed its quality gate ({err})"
        located = _locate(settings, _resolved(settings, "openvino"))
    return replace(located, reasons={**located.reasons, "backend": reason})


def _locate(settings: Settings, source: ModelSource) -> Located:
    if is_artefact(source.folder):
        return _from_artefact(settings, source)
    spec = read_spec(source.folder, name=source.name, overrides=settings.spec)
    _check_task(settings, spec, source.folder)
    backend = BACKENDS[source.engine]
    if backend.described:
        read_shape(source.folder, spec)
    network = graph_file(source.folder, settings.source.file, backend)
    if backend.scripts and is_torchscript(network):
        return _from_script(settings, source, spec, network)
    precision, reason = choose_precision(settings.precision, backend)
    if precision in backend.built:
        return _from_build(settings, source, spec, precision, reason)
    return _from_model_folder(source, spec, network, precision, reason)


def _is_built_in(settings: Settings) -> bool:
    return settings.backend == "fake" and not expanded(settings.model).is_dir()


def find_task(settings: Settings) -> Task:
    """What the model is for, from its files alone; nothing is built or opened.

    Raises:
        ModelNotFoundError: no such folder or hub model.
        SpecError: it is neither a cross-encoder nor a sentence-embedding model.
    """
    if _is_built_in(settings):
        return "embedding"
    source = _resolved(settings, settings.backend)
    if is_artefact(source.folder):
        return read_manifest(source.folder).spec.task
    return read_spec(source.folder, name=source.name, overrides=settings.spec).task


def _check_task(settings: Settings, spec: ModelSpec, folder: Path) -> None:
    if spec.task == settings.task:
        return
    if spec.task == "scoring":
        raise SpecError(
            f"{folder} is a cross-encoder: it scores pairs of texts and has no vectors; open it with nimbed.Reranker"
        )
    raise SpecError(f"{folder} is a sentence-embedding model and scores no pairs")


def _resolved(settings: Settings, backend: str) -> ModelSource:
    return resolve(settings.model, settings.source, backend)


def _built_in(settings: Settings) -> Located:
    from nimbed.backends import fake

    return Located(
        backend="fake",
        source=ModelSource(name=settings.model, folder=Path()),
        folder=Path(),
        spec=fake.SPEC,
        precision="fp32",
        digest="fake",
        tokenizer=fake.tokenizer(),
        reasons={"backend": "set by the user", "precision": "the fake backend has one"},
    )


def _from_artefact(settings: Settings, source: ModelSource) -> Located:
    artefact = open_artefact(source.folder)
    manifest = artefact.manifest
    _check_task(settings, manifest.spec, source.folder)
    if source.engine not in {manifest.engine, "fake"}:
        raise InputError(f"{source.folder} is an artefact for {manifest.engine}, not for backend={source.engine!r}")
    if settings.precision not in {"auto", manifest.precision}:
        raise InputError(f"{source.folder} is an {manifest.precision} artefact, not {settings.precision}")
    _check_built(settings, source.folder, manifest)
    named = replace(source, name=manifest.source.id, revision=manifest.source.revision)
    return _located(settings, artefact, named, manifest.spec, {"precision": "the artefact's own"})


def _check_built(settings: Settings, folder: Path, manifest: Manifest) -> None:
    """What the user says of the network is what the artefact was built with."""
    if settings.spec.pooling not in {None, manifest.spec.pooling}:
        raise InputError(f"{folder} was built with {manifest.spec.pooling} pooling; build another one")
    if settings.source.file not in {None, manifest.source.file, *BACKENDS[manifest.engine].files}:
        raise InputError(
            f"{folder} was built from {manifest.source.file}, not from Source(file={settings.source.file!r}); "
            "build another one"
        )


def _from_build(settings: Settings, source: ModelSource, spec: ModelSpec, precision: Precision, reason: str) -> Located:
    request = make_request(source, spec, precision, source=settings.source)
    artefact = find_or_build(request)
    # The folder's own prompts and limits are fresher than those of the day of the build.
    return _located(settings, artefact, source, spec, {"precision": reason, "artefact": f"built from {request.graph}"})


def _from_script(settings: Settings, source: ModelSource, spec: ModelSpec, network: Path) -> Located:
    """TorchScript is run as it stands."""
    check_allowed(network, settings.source)
    # Neural Compressor, which quantised the Intel/*-int8-static models, leaves its settings beside them.
    precision: Precision = "int8" if (source.folder / "inc_config.json").is_file() else "fp32"
    if settings.precision not in {"auto", precision}:
        raise InputError(f"{network} is {precision} TorchScript; it cannot run as {settings.precision}")
    located = _from_model_folder(source, spec, network, precision, f"that of {network.name}")
    return replace(located, code=network)


def _located(
    settings: Settings, artefact: Artefact, source: ModelSource, spec: ModelSpec, reasons: dict[str, str]
) -> Located:
    code = artefact.folder / SCRIPT if SCRIPT in artefact.manifest.files else None
    if code is not None:
        check_allowed(code, settings.source)
    return Located(
        backend=source.engine,
        source=source,
        folder=artefact.folder,
        spec=spec,
        precision=artefact.manifest.precision,
        digest=artefact.manifest.digest,
        tokenizer=load_tokenizer(artefact.folder),
        reasons={**reasons, **_forced(artefact)},
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
    warnings.warn(f"{artefact.folder}: {reason}; quantise the model again, or take fp32", stacklevel=2)
    return {"quality": reason}


def _from_model_folder(
    source: ModelSource, spec: ModelSpec, network: Path, precision: Precision, reason: str
) -> Located:
    """For engines that read the weights themselves."""
    inputs = model_files(source.folder, network, spec)
    check_one_encoder(network)
    files = Unchanged.of([*inputs.weights, *inputs.settings])
    return Located(
        backend=source.engine,
        source=source,
        folder=source.folder,
        spec=spec,
        precision=precision,
        digest=inputs.digest,
        files=files,
        network=network,
        tokenizer=load_tokenizer(source.folder),
        reasons={"precision": reason},
    )
