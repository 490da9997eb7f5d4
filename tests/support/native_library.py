"""NIMBED_NATIVE_LIBRARY names a folder whose build of the native engine is tested in place of the installed one."""

from __future__ import annotations

import os
import sys
from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import nimbed

NAME = "nimbed._native"


def put_in_place(folder: Path) -> None:
    if NAME in sys.modules:
        raise RuntimeError(f"{NAME} was imported before NIMBED_NATIVE_LIBRARY could take its place")
    (library,) = folder.glob("_native*.so")
    spec = spec_from_file_location(NAME, library, loader=ExtensionFileLoader(NAME, str(library)))
    sys.modules[NAME] = nimbed._native = module_from_spec(spec)
    spec.loader.exec_module(nimbed._native)


if "NIMBED_NATIVE_LIBRARY" in os.environ:
    put_in_place(Path(os.environ["NIMBED_NATIVE_LIBRARY"]).resolve())
