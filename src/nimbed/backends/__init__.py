"""The engines: one table, name to module. A module is imported when its engine is opened."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

from nimbed.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from nimbed._types import Backend, OpenRequest

# name -> (module, the extra that brings its engine)
BACKENDS: Final[dict[str, tuple[str, str | None]]] = {
    "fake": ("nimbed.backends.fake", None),
    "openvino": ("nimbed.backends.openvino", None),
    "torch": ("nimbed.backends.torch", "torch"),
}


def open_backend(name: str, request: OpenRequest) -> Backend:
    """Open a model with the engine of that name.

    Raises:
        InputError: there is no such engine.
        MissingExtraError: its package is not installed.
        BackendError: it could not open the model.
    """
    if name not in BACKENDS:
        raise InputError(f"backend={name!r} is not one of {', '.join(BACKENDS)}")
    module, extra = BACKENDS[name]
    try:
        opened: Backend = import_module(module).open_backend(request)
    except ImportError as err:
        if isinstance(err, MissingExtraError):
            raise
        raise MissingExtraError(f'backend={name!r} needs {err.name}: pip install "nimbed[{extra}]"') from err
    return opened
