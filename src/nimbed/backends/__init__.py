"""The engines: one table of them, and how one is opened by its name."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from nimbed.backends.table import BACKENDS, BUILT, BackendRecord
from nimbed.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from types import ModuleType

    from nimbed.backends.protocol import Backend, OpenRequest

__all__ = ["BACKENDS", "BUILT", "BackendRecord", "engine_module", "open_backend"]


def open_backend(name: str, request: OpenRequest) -> Backend:
    """Open a model with the engine of that name.

    Raises:
        InputError: there is no such engine.
        MissingExtraError: its package is not installed.
        BackendError: it could not open the model.
    """
    opened: Backend = engine_module(name).open_backend(request)
    return opened


def engine_module(name: str) -> ModuleType:
    """The module of the engine of that name. Raises as :func:`open_backend`."""
    if name not in BACKENDS:
        raise InputError(f"backend={name!r} is not one of {', '.join(BACKENDS)}")
    record = BACKENDS[name]
    try:
        return import_module(record.module)
    except MissingExtraError as err:
        raise MissingExtraError(f"backend={name!r}: {err}") from err
    except ImportError as err:
        remedy = record.notice or record.remedy
        if err.name == record.module:
            remedy = "it was left out of this bundle, which must hold all of nimbed (PyInstaller: --collect-all nimbed)"
        raise MissingExtraError(f"backend={name!r} needs {err.name}: {remedy}") from err
