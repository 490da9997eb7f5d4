"""Builds in the tests' own process: torch and NNCF are imported once, and a network is exported once."""

from __future__ import annotations

import gc
import sys
import warnings
from contextlib import contextmanager
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import pytest

from nimbed import quantize
from nimbed._loading import build
from nimbed._loading.build import BuildRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import openvino as ov

    from nimbed._loading.artefact import Artefact
    from nimbed._types import ModelSpec

_exported: dict[tuple[str, ...], ov.Model] = {}


def build_here(*args: Any, **settings: Any) -> Artefact:
    """``quantize``, in this process."""
    with in_process():
        return quantize(*args, **settings, progress=False)


def request_of_a_model(spec: ModelSpec, **more: Any) -> BuildRequest:
    """A request for a model that is nowhere; ``more``: at least its key and target."""
    return BuildRequest(
        name="some/model", folder="/nowhere", revision=None, graph="model.safetensors", sha256="0" * 64,
        settings_sha256="0" * 64, spec=spec, precision="int8", **more,
    )  # fmt: skip


@contextmanager
def in_process() -> Iterator[None]:
    """Within it no build starts a child process; that builds do so is for tests of their own."""
    from nimbed.quantization.openvino import build as openvino_build

    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as in the child process, where nobody sees them
        patch.setenv("NNCF_CI", "1")
        patch.setitem(sys.modules, "openvino_telemetry", None)
        patch.setattr(openvino_build, "load_network", partial(_load_once, openvino_build.load_network))
        patch.setattr(build, "_run_child", _run_here)
        yield


def _run_here(request: BuildRequest, *, progress: bool) -> None:
    from nimbed.quantization import pipeline

    _import_libraries()
    pipeline.build(request, lambda *_: None)


@cache
def _import_libraries() -> None:
    """Outside of what the collector looks through: the exporter collects several times a model."""
    import nncf  # noqa: F401
    import optimum.intel.openvino  # noqa: F401

    gc.collect()
    gc.freeze()


def _load_once(load: Callable[[BuildRequest], ov.Model], request: BuildRequest) -> ov.Model:
    key = (request.sha256, request.settings_sha256, request.graph, request.spec.task)
    if key not in _exported:
        _exported[key] = load(request)
    return _exported[key].clone()
