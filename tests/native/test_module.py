"""The extension itself, apart from the models that it runs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

native = pytest.importorskip("nimbed._native", reason="nimbed was installed without its native engine")


def test_the_library_that_was_asked_for_is_tested():
    folder = os.environ.get("NIMBED_NATIVE_LIBRARY")
    assert folder is None or Path(native.__file__).parent == Path(folder).resolve()


def test_kernels_are_found_by_name():
    assert native.kernels("reference") == "reference"
    assert native.kernels() is not None
    assert native.kernels("no such kernels") is None


def test_a_model_without_settings_is_refused():
    with pytest.raises(ValueError, match="precision is missing"):
        native.Model({}, {})
