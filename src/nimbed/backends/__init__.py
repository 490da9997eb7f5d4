"""The engines: one table, name to module. A module is imported when its engine is opened."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

from nimbed.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from types import ModuleType

    from nimbed.backends.protocol import Backend, OpenRequest

# name -> (module, the extra that brings its engine)
BACKENDS: Final[dict[str, tuple[str, str | None]]] = {
    "fake": ("nimbed.backends.fake", None),
    "ipex": ("nimbed.backends.ipex", "ipex"),
    "native": ("nimbed.backends.native", None),
    "openvino": ("nimbed.backends.openvino", None),
    "torch": ("nimbed.backends.torch", "torch"),
}

_COMPILE = (
    "it is compiled when nimbed is installed from source where a C++ compiler is: "
    "pip install --force-reinstall --no-deps --no-binary nimbed nimbed"
)
# What a user must know before an engine is installed, by its name.
NOTICES: Final[dict[str, str]] = {
    "ipex": (
        "upstream has ended Intel Extension for PyTorch (IPEX): 2.8.0 is its last release, its repository is archived "
        "with a notice of known security issues, and no fix is to be expected. nimbed's native engine and OpenVINO "
        "replace it. It runs only beside torch 2.8.0, in an environment of its own: make ipex-env in a checkout, or "
        'pip install -c constraints-ipex.txt "nimbed[ipex]"'
    ),
}


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
    module, extra = BACKENDS[name]
    try:
        return import_module(module)
    except ImportError as err:
        remedy = NOTICES.get(name, _COMPILE if extra is None else f'pip install "nimbed[{extra}]"')
        if err.name == module:
            remedy = "it was left out of this bundle, which must hold all of nimbed (PyInstaller: --collect-all nimbed)"
        raise MissingExtraError(f"backend={name!r} needs {err.name}: {remedy}") from err
