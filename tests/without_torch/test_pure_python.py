"""nimbed as it is installed without a C++ compiler: `make test` installs it so beside the environment that has one."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os

import pytest

if os.environ.get("NIMBED_NO_NATIVE") != "1":
    pytest.skip("NIMBED_NO_NATIVE=1 says that this environment is pure Python", allow_module_level=True)


def test_there_is_no_native_engine():
    assert importlib.util.find_spec("nimbed._native") is None
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("nimbed._native")


def test_the_wheel_says_that_it_is_pure_python():
    wheel = importlib.metadata.distribution("nimbed").read_text("WHEEL")
    assert "Root-Is-Purelib: true" in wheel
    assert "Tag: py3-none-any" in wheel
