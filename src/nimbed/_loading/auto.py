"""Which engine and which precision ``auto`` takes, and why."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, TypeVar

from nimbed import _machine
from nimbed._files.json import read_json, shown
from nimbed._loading.hub import fetch_network
from nimbed._model_folder.network_file import WEIGHTS, graph_file
from nimbed._model_folder.networks.table import has_other_positions, read_description
from nimbed._model_folder.weights import weight_files
from nimbed.backends import BACKENDS
from nimbed.errors import InputError, MissingExtraError, ModelNotFoundError, QualityError, SpecError

if TYPE_CHECKING:
    from collections.abc import Callable

    from nimbed._loading.candidate import Candidate
    from nimbed._loading.settings import Settings
    from nimbed._model_folder.networks.description import Network
    from nimbed._types import Precision
    from nimbed.backends import BackendRecord

    T = TypeVar("T")

_SLOW = "reference"
_FIRST = "native"
# Runs what the first does not.
_SPARE = "openvino"


def choose_backend() -> tuple[str, str]:
    """The engine for models that it can run, and the reason for it."""
    why, spare = native_missing(), BACKENDS[_SPARE]
    lacking = "" if spare.installed else f", which is not installed ({spare.remedy})"
    if why is None:
        return _FIRST, f"no padding and no cost of a new length; OpenVINO{lacking} for networks that it does not run"
    return _SPARE, f"OpenVINO{lacking} is the fastest that needs no torch; the native engine is not to be had: {why}"


@lru_cache(maxsize=1)
def native_missing() -> str | None:
    """Why the native engine cannot be had here, or None."""
    try:
        from nimbed._native import kernels
    except ImportError:
        return "it was not compiled when nimbed was installed (that needs a C++ compiler)"
    return "this CPU has no instructions that it is fast with" if kernels() == _SLOW else None


def with_its_engine(found: Candidate, settings: Settings, attempt: Callable[[Candidate], T]) -> T:
    """What an attempt makes of a model with the user's engine, or with the one that suits the model.

    Where the user chose none and the native engine does not run the network, OpenVINO has its turn; where its int8
    misses the quality gate and the user did not ask for int8, the native engine runs the network in fp32.

    Raises:
        ModelNotFoundError: no file holds the network.
        MissingExtraError: it is OpenVINO's turn, which is not installed.
        NimbedError: the attempt's own.
    """
    if settings.backend != "auto":
        network = _described(found, BACKENDS[settings.backend])
        _refuse_look_alikes(found, settings, BACKENDS[settings.backend])
        if settings.backend == _SPARE:
            _refuse_without_openvino(found, settings, "set by the user")
        return attempt(replace(found, engine=settings.backend, reason="set by the user", network=network))
    if found.manifest is not None:
        return attempt(replace(found, engine=found.manifest.engine, reason="the artefact's own"))
    engine, reason = choose_backend()
    if engine == _FIRST:
        try:
            candidate = _for_native(found, settings, reason)
        except (ModelNotFoundError, SpecError) as err:
            reason = f"the native engine does not fit: {err}"
        else:
            return _attempted(candidate, settings, attempt)
    _refuse_lacking(found, BACKENDS[_SPARE])
    _refuse_without_openvino(found, settings, reason)
    fetch_network(found.source, settings.source, _SPARE)
    _refuse_look_alikes(found, settings, BACKENDS[_SPARE], f"; {reason}")
    return attempt(replace(found, engine=_SPARE, reason=reason))


def _attempted(candidate: Candidate, settings: Settings, attempt: Callable[[Candidate], T]) -> T:
    try:
        return attempt(candidate)
    except QualityError as err:
        if settings.precision != "auto":
            raise
        return attempt(replace(candidate, refused=f"int8 failed its quality gate: {err}"))


def _for_native(found: Candidate, settings: Settings, reason: str) -> Candidate:
    """Raises SpecError also where files of it are missing: another form of the network may be whole."""
    record, file = BACKENDS[_FIRST], settings.source.file
    if settings.precision not in {"auto", *record.precisions}:
        raise SpecError(f"it has {' and '.join(record.precisions)}, and precision={settings.precision!r} was asked for")
    network = _described(found, record)
    if file is not None and not record.networks.has(file):
        raise SpecError(f"{file} was asked for, and it reads weights")
    fetch_network(found.source, settings.source, _FIRST)
    weight_files(graph_file(found.source.folder, file, record))
    return replace(found, engine=_FIRST, reason=reason, network=network)


def _described(found: Candidate, backend: BackendRecord) -> Network | None:
    """The network's description, where the engine runs only what has one."""
    _refuse_lacking(found, backend)
    if not backend.described or found.manifest is not None:
        return None
    return read_description(found.source.folder, found.spec)


def _refuse_lacking(found: Candidate, backend: BackendRecord) -> None:
    """Keep a model from an engine that would run the network without what belongs to it."""
    if found.spec.template and found.manifest is None and backend.package is not None:
        raise SpecError(
            f"{found.source.folder}: its scores are read behind the last token of a template, which the {backend.name} "
            "engine does not do"
        )
    if found.spec.adapters and found.manifest is None and not backend.adapters:
        names = ", ".join(dict.fromkeys(found.spec.adapters.values()))
        raise SpecError(
            f"{found.source.folder}: its vectors need adapters for a task ({names}), which the {backend.name} engine "
            "does not add to its weights"
        )


def _refuse_without_openvino(found: Candidate, settings: Settings, why: str) -> None:
    """Raise MissingExtraError, before anything large is downloaded, with the extra that reads what the model has."""
    record, source = BACKENDS[_SPARE], found.source
    if record.installed or found.manifest is not None:  # opening an artefact says it itself
        return
    there = (name for name in record.networks.names if name in source.files or (source.folder / name).is_file())
    if (file := settings.source.file or next(there, None)) is None:
        return
    extra = "export" if WEIGHTS.has(file) else "openvino" if settings.precision == "fp32" else "quantize"
    raise MissingExtraError(
        f'{source.name}: OpenVINO is not installed, and it is what could run {file}: pip install "nimbed[{extra}]" '
        f"(why OpenVINO: {why})"
    )


def _refuse_look_alikes(found: Candidate, settings: Settings, backend: BackendRecord, why: str = "") -> None:
    """Keep weights from a class of transformers' that has no more than their ``model_type``: it is another network.

    Such weights came with code of their own, or with positions that the class no longer has. A graph holds the whole
    network.
    """
    folder = found.source.folder
    if found.manifest is not None or backend.package is None:  # nimbed's own engines ask no class of transformers
        return
    config = read_json(folder / "config.json")
    key = "auto_map" if config.get("auto_map") else "position_embedding_type" if has_other_positions(config) else None
    if key is not None and WEIGHTS.has(graph_file(folder, settings.source.file, backend).name):
        raise SpecError(
            f"{config.where}: {key}: {backend.name} would take transformers' class for "
            f"{shown(config.get('model_type'))}, which is another network (code of the folder's own never runs){why}"
        )


def no_such_precision(requested: str, backend: BackendRecord) -> InputError:
    """The complaint about a precision that an engine does not have; to be raised."""
    return InputError(f'precision={requested!r}: backend="{backend.name}" has {" and ".join(backend.precisions)}')


def choose_precision(
    requested: Precision | Literal["auto"], backend: BackendRecord, refused: str = ""
) -> tuple[Precision, str]:
    """The user's word goes before; else it is the engine's own, or what this CPU is good at.

    Args:
        requested: by the user.
        backend: the engine.
        refused: why int8 was refused, if it was.

    Raises:
        InputError: the engine does not have what the user asked for.
    """
    if requested != "auto":
        if requested not in backend.precisions:
            raise no_such_precision(requested, backend)
        return requested, "set by the user"
    if refused:
        return "fp32", refused
    if backend.compiled:
        return "int8", "the native engine's sums of 8 bits are exact on every CPU"
    return for_this_cpu() if backend.built else ("fp32", "this engine's default")


def for_this_cpu() -> tuple[Precision, str]:
    """int8 where the CPU has the instructions for it, fp32 elsewhere."""
    cpu = _machine.cpu()
    if cpu.fast_int8:
        return "int8", f"{cpu.instruction_set} multiplies int8 fast and without overflow"
    return (
        "fp32",
        "no VNNI, AMX or dot-product instructions found (Linux alone tells): without them int8 could overflow",
    )
