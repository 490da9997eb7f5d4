"""The IPEX side of the build, with an engine that stands in for the extension."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from nimbed._loading.manifest import SCRIPT
from nimbed._types import DenseSpec, ModelSpec
from nimbed.backends.fake import FakeBackend
from nimbed.errors import QualityError
from nimbed.quantization import QualityGate, ipex

DENSE = DenseSpec(weights="2_Dense/model.safetensors", in_features=16, out_features=16, bias=False, activation="tanh")
SPEC = ModelSpec(
    architecture="bert",
    hidden_size=16,
    dim=16,
    pooling="mean",
    normalize=True,
    max_length=8,
    dense=(DENSE,),
    origins={},
)
TEXTS = [np.arange(start, start + 5, dtype=np.int32) for start in range(24)]


class Spoiled(FakeBackend):
    """Its int8 is noise."""

    def session(self):
        noise = np.random.default_rng(0).standard_normal((64, 16)).astype(np.float32)
        return SimpleNamespace(run=lambda batch: noise[: len(batch)])


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Runs the build with a backend for int8, into the folder that it returns."""
    (source := tmp_path / "model" / "2_Dense").mkdir(parents=True)
    (source / "model.safetensors").write_bytes(b"dense")
    (target := tmp_path / "artefact").mkdir()

    def run(int8, *, force=False):
        opened = {"fp32": FakeBackend, "int8": int8}
        quantize = SimpleNamespace(quantize=lambda *arguments: Path(arguments[-1]).write_bytes(b"script"))
        monkeypatch.setattr(ipex, "engine_module", lambda _: quantize)
        monkeypatch.setattr(ipex, "open_backend", lambda _, wanted: opened[wanted.precision](wanted.spec))
        request = SimpleNamespace(
            folder=str(source.parent), graph="model.safetensors", name="m", spec=SPEC, gate=QualityGate(), force=force
        )
        calibration = SimpleNamespace(calibrate=TEXTS, held_out=TEXTS, record={"origin": "test"})
        return ipex.make(target, request, calibration, lambda *_: None)

    run.folder = target
    return run


def test_a_good_script_is_measured_and_remembered(make, monkeypatch):
    remembered = []
    monkeypatch.setattr(ipex, "remember", remembered.append)
    built = make(FakeBackend)
    assert built.quality["mean_cosine"] == 1
    assert built.calibration == {"origin": "test"}
    assert not built.forced
    assert remembered == [make.folder / SCRIPT]
    assert (make.folder / DENSE.weights).read_bytes() == b"dense"


def test_a_bad_one_is_refused_and_not_remembered(make, monkeypatch):
    monkeypatch.setattr(ipex, "remember", lambda _: pytest.fail("remembered"))
    with pytest.raises(QualityError, match="int8 of m is too far from fp32"):
        make(Spoiled)


def test_force_publishes_it(make, monkeypatch):
    monkeypatch.setattr(ipex, "remember", lambda _: None)
    assert make(Spoiled, force=True).forced
