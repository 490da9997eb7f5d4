"""OpenVINO, imported without its telemetry; nimbed imports it from here alone.

``import openvino`` otherwise forks a process that looks up an analytics host, and writes into the home folder, without
which it fails. Without the package for it OpenVINO has a stub of its own.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from nimbed.backends.table import BACKENDS
from nimbed.errors import MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["op", "ov"]


@contextmanager
def _absent(package: str) -> Iterator[None]:
    """As if a package were not installed."""
    before = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == package}
    sys.modules[package] = None  # type: ignore[assignment] # importing it raises ImportError then
    try:
        yield
    finally:
        del sys.modules[package]
        sys.modules.update(before)


try:
    with _absent("openvino_telemetry"):
        import openvino as ov
        from openvino import opset13 as op
except ImportError as err:
    raise MissingExtraError(f"this needs OpenVINO ({err}): {BACKENDS['openvino'].remedy}") from err
