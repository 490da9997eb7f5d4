"""Which engine and which precision ``auto`` takes, and why."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

from nimbed import _machine
from nimbed._loading.artefact import is_artefact
from nimbed._loading.hub import resolve
from nimbed._loading.manifest import read_manifest
from nimbed._model_folder.network import read_shape
from nimbed._model_folder.network_file import graph_file
from nimbed._model_folder.weights import weight_files
from nimbed.backends import BACKENDS
from nimbed.errors import InputError, ModelNotFoundError, SpecError
from nimbed.spec import read_spec

if TYPE_CHECKING:
    from os import PathLike

    from nimbed._loading.hub import ModelSource, Source
    from nimbed._types import Precision
    from nimbed.backends import BackendRecord
    from nimbed.spec import SpecOverrides

_SLOW = "reference"


def choose_backend() -> tuple[str, str]:
    """The engine for models that it can run, and the reason for it."""
    why = native_missing()
    if why is None:
        return "native", "no padding and no cost of a new length; OpenVINO for networks that it does not run"
    return "openvino", f"the fastest engine here that needs no torch; the native one is not to be had: {why}"


@lru_cache(maxsize=1)
def native_missing() -> str | None:
    """Why the native engine cannot be had here, or None."""
    try:
        from nimbed._native import kernels
    except ImportError:
        return "it was not compiled when nimbed was installed (that needs a C++ compiler)"
    return "this CPU has no instructions that it is fast with" if kernels() == _SLOW else None


def choose_for(
    model: str | PathLike[str], *, source: Source, precision: str, overrides: SpecOverrides | None
) -> tuple[ModelSource, str]:
    """A model that the user chose no engine for, with the engine that suits it, and the reason.

    Raises:
        ModelNotFoundError: no such folder or hub model.
        SpecError: it says something that cannot be honoured.
    """
    backend, reason = choose_backend()
    found = resolve(model, source, "auto")
    if is_artefact(found.folder):
        return replace(found, engine=read_manifest(found.folder).engine), "the artefact's own"
    if backend == "native":
        try:
            if precision not in {"auto", "int8"}:
                raise SpecError(f"it has int8, and precision={precision!r} was asked for")  # noqa: TRY301
            read_shape(found.folder, read_spec(found.folder, name=found.name, overrides=overrides))
            return _with_weights(model, source), reason
        except (ModelNotFoundError, SpecError) as err:
            reason = f"the native engine does not fit: {err}"
    return resolve(model, source, "openvino"), reason


def _with_weights(model: str | PathLike[str], source: Source) -> ModelSource:
    """Raises SpecError also where files of it are missing: another form of the network may be whole."""
    if source.file is not None and not BACKENDS["native"].networks.has(source.file):
        raise SpecError(f"{source.file} was asked for, and it reads safetensors")
    found = resolve(model, source, "native")
    weight_files(graph_file(found.folder, source.file, BACKENDS["native"]))
    return found


def no_such_precision(requested: str, backend: BackendRecord) -> InputError:
    """The complaint about a precision that an engine does not have; to be raised."""
    return InputError(f'precision={requested!r}: backend="{backend.name}" has {" and ".join(backend.precisions)}')


def choose_precision(requested: Precision | Literal["auto"], backend: BackendRecord) -> tuple[Precision, str]:
    """The user's word goes before; else it is what this CPU is good at, of an engine that has a choice.

    Raises:
        InputError: the engine does not have what the user asked for.
    """
    if requested != "auto":
        if requested not in backend.precisions:
            raise no_such_precision(requested, backend)
        return requested, "set by the user"
    if len(backend.precisions) == 1:
        return backend.precisions[0], f"the {backend.name} engine's one"
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
