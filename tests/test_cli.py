"""The command, run as a person runs it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from nimbed import Encoder
from nimbed.cli import main


def test_doctor(capsys, nimbed_home):
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    for word in (
        "cpu",
        "instructions",
        "threads",
        "openvino (20",
        "auto precision",
        str(nimbed_home),
        "quantize (installed)",
    ):
        assert word in said


def test_doctor_names_what_is_missing(capsys, monkeypatch):
    from importlib import metadata

    from nimbed import _machine

    real = metadata.version

    def version(name: str) -> str:
        if name == "torch":
            raise metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(metadata, "version", version)
    monkeypatch.setattr(_machine, "cpu", lambda: _machine.Cpu(model="old", architecture="x86_64", features=("avx2",)))
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert "torch (not installed)" in said
    assert 'pip install "nimbed[torch]"' in said
    assert "fp32: no VNNI" in said


def test_embed_streams_to_numpy(tmp_path, capsys):
    texts = [f"text {n}" for n in range(1200)]
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps({"id": n, "text": t}) + "\n" for n, t in enumerate(texts)))
    out = tmp_path / "out.npy"
    assert main(["embed", str(source), "-o", str(out), "--model", "any", "--backend", "fake"]) == 0
    assert "1200 x 384, 0 texts truncated" in capsys.readouterr().out
    with Encoder("any", backend="fake") as encoder:
        np.testing.assert_array_equal(np.load(out), encoder.encode(texts))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.jsonl", "out.npy"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('{"text": "a"}\n{"text": 3}\n', "line 2"),
        ('{"text": "a"}\nnot json\n', "line 2"),
        (None, "cannot be read"),
    ],
)
def test_embed_leaves_nothing_after_an_error(content, says, tmp_path, capsys):
    source, out = tmp_path / "in.jsonl", tmp_path / "out.npy"
    if content is not None:
        source.write_text(content)
    assert main(["embed", str(source), "-o", str(out), "--model", "any", "--backend", "fake"]) == 1
    assert says in capsys.readouterr().err
    assert not [p for p in tmp_path.iterdir() if p != source]


def test_embed_nothing(tmp_path):
    (tmp_path / "in.jsonl").write_text("")
    out = tmp_path / "out.npy"
    assert main(["embed", str(tmp_path / "in.jsonl"), "-o", str(out), "--model", "any", "--backend", "fake"]) == 0
    assert np.load(out).shape == (0, 384)


def test_quantize(tiny_onnx, tmp_path, capsys):
    out = tmp_path / "artefact"
    texts = tmp_path / "mine.txt"
    texts.write_text("one of my texts\nand another\n")
    assert main(["quantize", str(tiny_onnx), "-o", str(out), "--calibrate", str(texts), "--pooling", "cls"]) == 0
    said = capsys.readouterr().out
    assert str(out) in said
    assert "cls pooling" in said
    assert "against fp32 on 256 held-out texts" in said
    manifest = json.loads((out / "nimbed.json").read_text())
    assert manifest["calibration"]["count"] == 2


def test_errors_are_one_line(capsys):
    assert main(["quantize", "./nowhere"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("nimbed: ./nowhere: neither a folder nor a hub id")
    assert said.count("\n") == 1
