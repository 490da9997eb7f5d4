"""The extension itself, apart from the models that it runs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nimbed import _machine

native = pytest.importorskip("nimbed._native", reason="nimbed was installed without its native engine")


def test_the_library_that_was_asked_for_is_tested():
    folder = os.environ.get("NIMBED_NATIVE_LIBRARY")
    assert folder is None or Path(native.__file__).parent == Path(folder).resolve()


def test_kernels_are_found_by_name():
    assert native.kernels("reference") == "reference"
    assert native.kernels() is not None
    assert native.kernels("no such kernels") is None


def test_auto_is_the_best_that_the_cpu_runs():
    """In the build of make test-avx512, which emulates it, that is AVX-512 on every CPU."""
    emulated = Path(native.__file__).parent.name == "avx512"
    features = {*_machine.cpu().features, *(["avx512_vnni"] if emulated else [])}
    assert native.kernels() == next((name for name in ("avx512_vnni", "avx2") if name in features), "reference")


def test_a_model_without_settings_is_refused():
    with pytest.raises(ValueError, match="precision is missing"):
        native.Model({}, {})
