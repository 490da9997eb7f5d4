"""From folders to artefacts: three ways in, what the manifest says, and what goes wrong."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

import numpy as np
import openvino as ov
import pytest
import safetensors.numpy
from tests.support.artefacts import rewrite
from tests.support.model_folders import candidate_of
from tests.support.torch_files import archive, state, text

from nimbed import Calibration, Encoder, Source, quantize
from nimbed._loading.artefact import is_artefact, open_artefact
from nimbed._loading.build import QualityGate, make_request
from nimbed._loading.manifest import FORMAT
from nimbed._loading.progress import Step
from nimbed.errors import ArtefactError, BuildError, InputError, SpecError
from nimbed.quantization.pipeline import build

TEXTS = ["one", "two words", "", "a somewhat longer text, with punctuation!", "word " * 40]


@pytest.mark.parametrize(
    ("engine", "fixture", "files"),
    [
        ("native", "minilm_native", {"encoder.safetensors"}),
        ("openvino", "minilm_openvino_int8", {"model.xml", "model.bin"}),
    ],
)
def test_manifest_holds_what_happened(engine, fixture, files, minilm_folder, request):
    manifest = open_artefact(request.getfixturevalue(fixture)).manifest
    assert manifest.engine == engine
    assert manifest.precision == "int8"
    assert manifest.source.file == "model.safetensors"
    import hashlib

    assert manifest.source.sha256 == hashlib.sha256((minilm_folder / "model.safetensors").read_bytes()).hexdigest()
    assert manifest.spec.pooling == "mean"
    assert manifest.calibration["count"] == 128
    assert "public domain" in manifest.calibration["origin"]
    assert "in Chinese (MIT)" in manifest.calibration["origin"]
    assert manifest.quality["texts"] == 2 * 128
    assert manifest.quality["mean_cosine"] > 0.9985
    assert manifest.quality["top10_agreement"] > 0.94
    assert manifest.quality["rank_correlation"] > 0.998
    assert manifest.quality["missed"] == []
    assert manifest.repair is None
    assert manifest.forced is False
    assert {"openvino", "nncf", "torch", "optimum-intel"} <= set(manifest.versions)
    assert set(manifest.files) == {*files, "ranges.npy", "tokenizer.json"}


def test_int8_is_smaller_than_a_third(minilm_openvino_int8, minilm_fp32):
    assert (minilm_openvino_int8 / "model.bin").stat().st_size < (minilm_fp32 / "model.bin").stat().st_size / 3


def test_onnx_and_openvino_graphs_need_no_export(tiny_folder, tiny_onnx, tmp_path):
    graph = shutil.copytree(tiny_onnx, tmp_path / "graph", ignore=shutil.ignore_patterns("onnx"))
    (graph / "openvino").mkdir()
    network = ov.Core().read_model(tiny_onnx / "onnx" / "model.onnx")
    ov.save_model(network, graph / "openvino" / "openvino_model.xml", compress_to_fp16=False)
    with Encoder(tiny_folder, backend="torch") as oracle:
        expected = oracle.encode(TEXTS)
    for folder in (tiny_onnx, graph):
        with Encoder(folder, precision="fp32") as encoder:
            np.testing.assert_allclose(encoder.encode(TEXTS), expected, atol=1e-5)
            assert "built from o" in encoder.info.reasons["artefact"]


def test_errors_of_the_build_process_come_back_as_themselves(tiny_onnx, tmp_path):
    file = tmp_path / "texts.jsonl"
    file.write_text('{"text": "fine"}\n{"body": "no text"}\n')
    with pytest.raises(InputError, match="line 2"):
        quantize(tiny_onnx, tmp_path / "out", calibration=Calibration(texts=file), progress=False)
    broken = shutil.copytree(tiny_onnx, tmp_path / "broken")
    (broken / "onnx" / "model.onnx").write_bytes(b"nothing")
    with pytest.raises(SpecError, match=r"model\.onnx cannot be read"):
        quantize(broken, tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out*"))


def test_truncated_weights(tiny_folder, tmp_path):
    broken = shutil.copytree(tiny_folder, tmp_path / "broken")
    whole = (broken / "model.safetensors").read_bytes()
    (broken / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    for backend in ("openvino", "native"):
        with pytest.raises(SpecError, match=r"model\.safetensors is no safetensors file, or damaged.*fetch it again"):
            quantize(broken, tmp_path / "out", backend=backend, progress=False)
    assert not (tmp_path / "out").exists()


def test_a_pickle_that_runs_code_runs_none(tiny_folder, tmp_path):
    folder = shutil.copytree(tiny_folder, tmp_path / "pickled", ignore=shutil.ignore_patterns("*.safetensors"))
    archive(folder / "pytorch_model.bin", state(a=b"cos\nsystem\n(" + text("true") + b"tR"))
    with pytest.raises(SpecError, match=r"pytorch_model.bin: it names 'os.system', which might run code"):
        Encoder(folder)


def test_two_processes_build_one_artefact(tiny_onnx, tmp_path, nimbed_home):
    out = tmp_path / "out"
    command = [sys.executable, "-m", "nimbed", "quantize", str(tiny_onnx), "--out", str(out), "--count", "8"]
    with ThreadPoolExecutor(3) as pool:
        runs = list(pool.map(lambda _: subprocess.run(command, capture_output=True, text=True, check=False), range(3)))
    assert [run.returncode for run in runs] == [0, 0, 0], runs[0].stderr
    assert is_artefact(out)
    open_artefact(out)
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_killed_build_leaves_nothing_in_the_way(tiny_onnx, tmp_path):
    import time

    out = tmp_path / "out"
    command = [sys.executable, "-m", "nimbed", "quantize", str(tiny_onnx), "--out", str(out), "--count", "8"]
    run = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not list(tmp_path.glob(".out.*.tmp")):
        time.sleep(0.02)
    run.kill()
    run.wait()
    artefact = quantize(tiny_onnx, out, calibration=Calibration(count=8), progress=False)
    assert artefact.manifest.calibration["count"] == 8
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_a_home_that_cannot_be_written(tiny_onnx, monkeypatch):
    monkeypatch.setenv("NIMBED_HOME", "/proc/nimbed")
    with pytest.raises(ArtefactError, match=r"/proc/nimbed.*NIMBED_HOME"):
        Encoder(tiny_onnx, precision="fp32")


def test_folder_in_the_way(tiny_onnx, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("dear")
    with pytest.raises(InputError, match="exists and is no artefact"):
        quantize(tiny_onnx, tmp_path / "mine", progress=False)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "dear"


def test_an_artefact_cannot_be_quantized_again(minilm_int8):
    with pytest.raises(InputError, match="is an artefact already"):
        quantize(minilm_int8)


def test_files_that_change_while_an_artefact_is_built_from_them(tiny_folder, tmp_path):
    folder = shutil.copytree(tiny_folder, tmp_path / "model")
    request = make_request(
        candidate_of(folder, "native"),
        "int8",
        source=Source(),
        target=tmp_path / "out",
        force=True,
    )
    tensors = safetensors.numpy.load_file(folder / "model.safetensors")
    safetensors.numpy.save_file(
        {name: v * np.float32(1.1) for name, v in tensors.items()}, folder / "model.safetensors"
    )
    with pytest.raises(BuildError, match=r"model: its files changed while the artefact was built; build it again"):
        build(request, lambda *_: None)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("backend", "counted"), [("native", {"quantizing", "measuring against fp32"}), ("openvino", set())]
)
def test_progress_grows_stage_by_stage_to_the_end(backend, counted, tiny_folder, tmp_path, in_process):
    told = []

    def progress(stage, done=0, total=0):
        told.append(Step(stage=stage, done=done, total=total))

    request = make_request(
        candidate_of(tiny_folder, backend), "int8", source=Source(), target=tmp_path / "out", force=True,
        gate=QualityGate(**dict.fromkeys(asdict(QualityGate()), 0.0)),
    )  # fmt: skip
    build(request, progress)
    stages = list(dict.fromkeys(step.stage for step in told))
    assert stages == ["reading the network", "quantizing", "measuring against fp32", "saving", "publishing"]
    fractions = [step.fraction for step in told]
    assert fractions == sorted(fractions)
    for stage in stages:
        steps = [step for step in told if step.stage == stage]
        assert (steps[0].done, steps[-1].done) == (0, steps[-1].total)
        assert (steps[-1].total > 0) == (stage in counted)
    layers = json.loads((tiny_folder / "config.json").read_text())["num_hidden_layers"]
    if backend == "native":
        assert [step.done for step in told if step.stage == "quantizing"] == list(range(layers + 1))


def test_an_older_artefact_is_built_again_where_it_is(tiny_onnx, tmp_path, in_process):
    out = quantize(tiny_onnx, tmp_path / "out", precision="fp32", progress=False).folder
    digest = open_artefact(out).manifest.digest
    rewrite(out, format=FORMAT - 1)
    with pytest.raises(
        ArtefactError, match=rf"older.*nimbed quantize \./\S+ -o {out} --backend openvino --precision fp32"
    ):
        Encoder(out)
    again = quantize(tiny_onnx, out, precision="fp32", backend="openvino", progress=False)
    assert again.manifest.digest == digest
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
