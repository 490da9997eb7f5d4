"""What the build process reports: steps, the end, and errors by their names."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

import pytest
from tests.support.model_folders import candidate_of

from nimbed import Source
from nimbed._loading.build import make_request
from nimbed.errors import QualityError
from nimbed.quantization import pipeline
from nimbed.quantization.process import main


@pytest.fixture
def payload(tiny_folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino_telemetry", None)  # main sets it for good
    request = make_request(candidate_of(tiny_folder, "native"), "int8", source=Source())
    return json.dumps(asdict(request)).encode()


def run(payload):
    reports = []
    status = main(payload, lambda **report: reports.append(report), 0.0)
    return status, reports


def test_steps_and_the_end_are_reported(payload, tiny_folder, monkeypatch):
    seen = []

    def build(request, progress):
        seen.append(request)
        progress("quantizing", 7, 12)
        progress("saving")

    monkeypatch.setattr(pipeline, "build", build)
    layer = {"kind": "progress", "stage": "quantizing", "done": 7, "total": 12}
    saving = {"kind": "progress", "stage": "saving", "done": 0, "total": 0}
    assert run(payload) == (0, [layer, saving, {"kind": "done"}])
    assert seen[0].spec == candidate_of(tiny_folder).spec
    assert seen[0].engine == "native"


def test_nimbeds_errors_come_out_by_name(payload, monkeypatch):
    def build(request, report):
        raise QualityError("too far from fp32")

    monkeypatch.setattr(pipeline, "build", build)
    assert run(payload) == (1, [{"kind": "error", "type": "QualityError", "message": "too far from fp32"}])


def test_other_errors_end_the_process(payload, monkeypatch):
    def build(request, report):
        raise ZeroDivisionError

    monkeypatch.setattr(pipeline, "build", build)
    with pytest.raises(ZeroDivisionError):
        run(payload)
