"""OpenVINO is imported as if its telemetry were not installed, and all else finds its modules as they were."""

from __future__ import annotations

import sys

import pytest

from nimbed.backends import engine_module
from nimbed.backends.openvino_api import _absent, op, ov
from nimbed.errors import MissingExtraError


def test_a_package_is_absent_within_and_back_afterwards(tmp_path, monkeypatch):
    (tmp_path / "sample_package").mkdir()
    (tmp_path / "sample_package" / "__init__.py").touch()
    (tmp_path / "sample_package" / "part.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    import sample_package.part

    before = sample_package.part
    with _absent("sample_package"), pytest.raises(ImportError):
        import sample_package.part as again  # noqa: F401
    assert sys.modules["sample_package.part"] is before


def test_what_was_not_imported_stays_so():
    with _absent("no_such_package"):
        assert sys.modules["no_such_package"] is None
    assert "no_such_package" not in sys.modules


def test_it_comes_back_after_an_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "sample_module", sys)
    with pytest.raises(KeyError), _absent("sample_module"):
        raise KeyError
    assert sys.modules["sample_module"] is sys


def test_without_openvino_the_error_has_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    for name in ("nimbed.backends.openvino_api", "nimbed.backends.openvino"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(MissingExtraError, match=r'^backend=\'openvino\': .*pip install "nimbed\[openvino\]"'):
        engine_module("openvino")


def test_openvino_and_its_operations():
    assert ov.Core().available_devices
    assert op.constant(1.0).get_type_name() == "Constant"
