"""The repair: which layers go back to fp32, when it stops, and what the gate then does."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from nimbed import Encoder, quantize
from nimbed._loading.artefact import open_artefact
from nimbed.cli import main
from nimbed.errors import BuildError, InputError, QualityError
from nimbed.quantization import QualityGate
from nimbed.quantization.closeness import quality
from nimbed.quantization.openvino import repair
from nimbed.quantization.openvino.exact import vectors_of
from nimbed.quantization.openvino.layers import layers_of
from nimbed.quantization.openvino.quantize import pack

LAST_ATTENTION = "/model/encoder/layer.1/attention/self/MatMul"


def repair_context(quantized, pooled, gate):
    prepared, rounded, texts = quantized
    exact = pooled(prepared.network)
    reference = vectors_of(exact, texts.held_out)
    context = repair.RepairContext(
        gate=gate,
        calibrate=texts.calibrate,
        ranking=texts.ranking,
        expected=vectors_of(exact, texts.ranking),
        head=pooled,
        measure=lambda graph: quality(reference, vectors_of(graph, texts.held_out), 128),
    )
    return pooled(rounded), context


def test_layers_that_hurt_are_found_without_accuracy_control(quantized, monkeypatch, pooled):
    monkeypatch.setattr(repair, "_CONTROL_SECONDS", -1.0)
    encoder, context = repair_context(quantized, pooled, QualityGate())
    before = context.measure(encoder)
    assert context.gate.failures(before)
    repaired, after, record = repair.repair(encoder, before, quantized[0], context)
    assert context.gate.failures(after) == {}
    assert context.measure(pack(repaired)) == pytest.approx(after, abs=1e-3)
    assert record["accuracy_control"].startswith("stopped after")
    assert LAST_ATTENTION in record["fp32_layers"]
    assert len(record["fp32_layers"]) <= 3
    assert record["before"] == before


def test_no_more_than_half_goes_back(quantized, monkeypatch, pooled):
    monkeypatch.setattr(repair, "_CONTROL_SECONDS", -1.0)
    encoder, context = repair_context(quantized, pooled, QualityGate(min_cosine=1, mean_cosine=1))
    repaired, after, record = repair.repair(encoder, context.measure(encoder), quantized[0], context)
    assert context.gate.failures(after)
    assert record["quantised_layers"] == len(layers_of(encoder))
    assert len(layers_of(repaired)) == len(layers_of(encoder)) - len(layers_of(encoder)) // 2


def test_planted_outliers_are_repaired(in_process, planted, sensitive, tmp_path, capsys):
    assert main(["quantize", str(planted), "-o", str(tmp_path / "out"), "--count", "16", "--backend", "openvino"]) == 0
    manifest = open_artefact(tmp_path / "out").manifest
    assert manifest.forced is False
    assert manifest.quality["missed"] == []
    assert manifest.repair["before"]["mean_cosine"] < 0.99 < manifest.quality["mean_cosine"]
    assert manifest.repair["fp32_layers"] == [LAST_ATTENTION]
    said = capsys.readouterr().out
    for words in ("mean cosine", "top-10 agreement", "repaired, before: mean cosine 0.9", LAST_ATTENTION, "time: "):
        assert words in said
    with warnings.catch_warnings(), Encoder(tmp_path / "out") as encoder, Encoder(planted, precision="fp32") as exact:
        assert "quality" not in encoder.info.reasons
        assert encoder.info.quality == manifest.quality
        np.testing.assert_allclose(
            exact.encode(["one", "two words"]),
            Encoder(sensitive, precision="fp32").encode(["one", "two words"]),
            atol=1e-3,
        )


@pytest.mark.parametrize("texts", [["The quick brown fox jumps over the lazy dog."], ["a a a a"] * 64])
def test_sabotaged_calibration_is_refused(texts, in_process, sensitive, tmp_path):
    with pytest.raises(QualityError, match=r"on 256 held-out texts: .*min_cosine 0\.\d+ \(at least 0\.995\)") as caught:
        quantize(sensitive, tmp_path / "out", calibration=texts, backend="openvino", progress=False)
    assert isinstance(caught.value, BuildError)
    for remedy in ("--calibrate", 'precision="fp32"', "--force", "Nothing was published"):
        assert remedy in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_force_publishes_and_the_encoder_warns(in_process, tiny_onnx, tmp_path, capsys):
    gate = QualityGate(mean_cosine=1.0, min_cosine=1.0)
    made = quantize(tiny_onnx, tmp_path / "out", calibration=["a text"], gate=gate, force=True, progress=False)
    assert made.manifest.forced is True
    assert made.manifest.quality["missed"] == ["mean_cosine", "min_cosine"]
    with pytest.raises(InputError, match="made from other inputs"):
        quantize(tiny_onnx, tmp_path / "out", calibration=["a text"], gate=gate, progress=False)
    with pytest.warns(UserWarning, match="failed its quality gate and was published by force: mean_cosine") as caught:
        encoder = Encoder(tmp_path / "out")
    assert len(caught) == 1
    assert encoder.info.reasons["quality"] in str(caught[0].message)
    assert encoder.encode(["still works"]).shape == (1, 32)
    encoder.close()
