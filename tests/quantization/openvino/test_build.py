"""The OpenVINO side of the build: what becomes of a network that is int8 already, and of one for fp32."""

from __future__ import annotations

import shutil

import numpy as np
import openvino as ov
import pytest

from nimbed import Encoder, Source, quantize
from nimbed.errors import InputError
from nimbed.quantization.calibration import one_row

TEXTS = ["one", "two words", "a somewhat longer text, with punctuation!", "word " * 40]


def test_ready_int8_file_is_used_as_it_is(tiny_onnx, tmp_path):
    folder = shutil.copytree(tiny_onnx, tmp_path / "model")
    (folder / "openvino").mkdir()
    import nncf

    raw = ov.Core().read_model(tiny_onnx / "onnx" / "model.onnx")
    names = [port.get_any_name() for port in raw.inputs]
    rows = [np.arange(101, 101 + n, dtype=np.int32) for n in (4, 9, 30)]
    ready = nncf.quantize(
        raw, nncf.Dataset(rows, lambda row: one_row(row, names)), model_type=nncf.ModelType.TRANSFORMER, subset_size=3
    )
    ov.save_model(ready, folder / "openvino" / "openvino_model_qint8.xml", compress_to_fp16=False)
    source = Source(file="openvino/openvino_model_qint8.xml")
    artefact = quantize(folder, tmp_path / "ready", source=source, progress=False)
    assert artefact.manifest.calibration == {"origin": "quantized by the model's authors"}
    with Encoder(artefact) as encoder, Encoder(tiny_onnx, precision="fp32") as reference:
        a, b = encoder.encode(TEXTS), reference.encode(TEXTS)
    assert ((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).min() > 0.9
    with pytest.raises(InputError, match="is quantized already"):
        quantize(folder, tmp_path / "fp32", precision="fp32", source=source, progress=False)
    assert not (tmp_path / "fp32").exists()


def test_fp32_has_a_calibration_only_where_texts_are_given(tiny_onnx, tmp_path, in_process):
    plain = quantize(tiny_onnx, tmp_path / "plain", precision="fp32", progress=False)
    given = quantize(tiny_onnx, tmp_path / "given", precision="fp32", calibration=["a text", "two"], progress=False)
    assert (plain.manifest.calibration, plain.manifest.quality) == (None, None)
    assert given.manifest.calibration["count"] == 2
    assert given.manifest.quality is None
