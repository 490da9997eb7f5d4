"""From folders to artefacts: three ways in, the head, the choice of calibration texts, and what goes wrong."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import openvino as ov
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimbed import Calibration, Encoder, Source, SpecOverrides, quantize
from nimbed.artefact import is_artefact, open_artefact
from nimbed.errors import ArtefactError, BuildError, InputError, SpecError
from nimbed.quantization._calibrate import _excerpt, choose, one_row, read_texts
from nimbed.quantization._head import PREFIX, append_head
from nimbed.quantization._outliers import narrowing_layers, split_outliers
from nimbed.quantization._tables import small_tables
from nimbed.spec import read_spec
from tests.conftest import write_modules

TEXTS = ["one", "two words", "", "a somewhat longer text, with punctuation!", "word " * 40]


def test_manifest_holds_what_happened(minilm_int8, minilm_folder):
    manifest = open_artefact(minilm_int8).manifest
    assert manifest.engine == "openvino"
    assert manifest.precision == "int8"
    assert manifest.source.file == "model.safetensors"
    import hashlib

    assert manifest.source.sha256 == hashlib.sha256((minilm_folder / "model.safetensors").read_bytes()).hexdigest()
    assert manifest.spec.pooling == "mean"
    assert manifest.calibration["count"] == 128
    assert "public domain" in manifest.calibration["origin"]
    assert manifest.quality["texts"] == 2 * 64
    assert manifest.quality["mean_cosine"] > 0.998
    assert {"openvino", "nncf", "torch", "optimum-intel"} <= set(manifest.versions)
    assert set(manifest.files) == {"model.xml", "model.bin", "ranges.npy", "tokenizer.json"}


def test_nothing_in_the_head_is_quantised(minilm_int8):
    model = ov.Core().read_model(minilm_int8 / "model.xml")
    head = [op for op in model.get_ops() if op.get_friendly_name().startswith(PREFIX)]
    kinds = {op.get_type_name() for op in head}
    assert {"NormalizeL2", "ReduceSum", "Divide"} <= kinds
    assert "FakeQuantize" not in kinds
    for op in head:
        for source in op.input_values():
            assert source.get_node().get_type_name() != "FakeQuantize", f"{op} reads quantised values"
    # It is the encoder that is quantised.
    assert sum(op.get_type_name() == "FakeQuantize" for op in model.get_ops()) >= 6 * 6


def test_the_outlier_split_computes_the_same(tiny_folder, tiny_onnx):
    sequences = [np.array([101, *range(200, 200 + n), 102], np.int32) for n in (1, 5, 30)]
    network = ov.Core().read_model(tiny_onnx / "onnx" / "model.onnx")
    narrow = narrowing_layers(network)
    matmuls = [op for op in network.get_ordered_ops() if op.get_type_name() == "MatMul"]
    linear = [op.get_friendly_name() for op in matmuls if len(op.input_value(1).get_partial_shape()) == 2]
    # Of a layer's six, only the last one narrows: query, key, value, the attention's output, up, down.
    assert [op.get_friendly_name() for op in narrow] == linear[5::6]
    expected = [vectors_of_tokens(network, sequence) for sequence in sequences]
    kept = split_outliers(network, sequences)
    assert kept == [f"{name}/outliers" for name in linear[5::6]]
    for sequence, vectors in zip(sequences, expected, strict=True):
        np.testing.assert_allclose(vectors_of_tokens(network, sequence), vectors, atol=1e-5)


def vectors_of_tokens(network, sequence):
    properties = {"INFERENCE_PRECISION_HINT": "f32"}
    request = ov.Core().compile_model(network, "CPU", properties).create_infer_request()
    request.infer(one_row(sequence, [port.get_any_name() for port in network.inputs]))
    return request.get_output_tensor(0).data.copy()


def test_the_largest_channels_are_split_off():
    from openvino import opset13 as op

    rng = np.random.default_rng(0)
    tokens = op.parameter([-1, -1], np.int64)
    tokens.output(0).get_tensor().set_names({"input_ids"})
    table = rng.normal(size=(50, 96)).astype(np.float32)
    table[:, [7, 90]] *= 30
    weights = rng.normal(size=(96, 8)).astype(np.float32)
    product = op.matmul(
        op.gather(op.constant(table), tokens, op.constant(np.int64(0))), op.constant(weights), False, False
    )
    product.set_friendly_name("down")
    network = ov.Model([op.result(product)], [tokens], "one layer")
    sequence = np.arange(50, dtype=np.int32)
    before = vectors_of_tokens(network, sequence)
    assert split_outliers(network, [sequence]) == ["down/outliers"]
    apart = next(o for o in network.get_ops() if o.get_friendly_name() == "down/outliers")
    np.testing.assert_array_equal(apart.input_value(0).get_node().input_value(1).get_node().get_data(), [7, 90])
    np.testing.assert_allclose(vectors_of_tokens(network, sequence), before, rtol=1e-4, atol=1e-3)


def test_embedding_tables(minilm_int8, minilm_fp32):
    """The words' one is int8 and stays so in memory; those of positions and token types are fp32."""
    small = small_tables(ov.Core().read_model(minilm_fp32 / "model.xml"))
    assert sorted(name.split("/")[0].split(".")[-1] for name in small) == [
        "position_embeddings",
        "token_type_embeddings",
    ]
    lookups = [op for op in ov.Core().read_model(minilm_int8 / "model.xml").get_ops() if op.get_type_name() == "Gather"]
    tables = [op.input_value(0).get_node() for op in lookups]
    kinds = {
        tuple(t.get_output_shape(0)): t.get_element_type().to_string()
        for t in tables
        if t.get_type_name() == "Constant" and len(t.get_output_shape(0)) == 2
    }
    assert kinds == {(30522, 384): "i8", (30522, 1): "f32", (512, 384): "f32", (2, 384): "f32"}


def test_int8_is_smaller_than_a_third(minilm_int8, minilm_fp32):
    assert (minilm_int8 / "model.bin").stat().st_size < (minilm_fp32 / "model.bin").stat().st_size / 3


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("pooling", ["cls", "lasttoken", "max", "mean", "weightedmean"])
def test_every_head_agrees_with_torch(pooling, normalize, tiny_folder, tiny_onnx, tmp_path):
    spec = read_spec(tiny_folder, overrides=SpecOverrides(pooling=pooling, normalize=normalize))
    network = ov.Core().read_model(tiny_onnx / "onnx" / "model.onnx")
    ov.save_model(append_head(network, spec, tiny_folder), tmp_path / "model.xml", compress_to_fp16=False)
    assert compare_with_torch(tmp_path, spec, tiny_folder) < 1e-5


def test_dense_layer_agrees_with_torch(tiny_folder, tiny_onnx, tmp_path):
    import torch
    from safetensors.torch import save_file

    folder = shutil.copytree(tiny_folder, tmp_path / "dense")
    write_modules(folder, pooling="mean", normalize=True, dense=True)
    (folder / "2_Dense").mkdir()
    config = {
        "in_features": 32,
        "out_features": 8,
        "bias": True,
        "activation_function": "torch.nn.modules.activation.Tanh",
    }
    (folder / "2_Dense" / "config.json").write_text(json.dumps(config))
    weights = {"linear.weight": torch.randn(8, 32), "linear.bias": torch.randn(8)}
    save_file(weights, folder / "2_Dense" / "model.safetensors")
    spec = read_spec(folder)
    assert spec.dim == 8
    network = ov.Core().read_model(tiny_onnx / "onnx" / "model.onnx")
    ov.save_model(append_head(network, spec, folder), tmp_path / "model.xml", compress_to_fp16=False)
    assert compare_with_torch(tmp_path, spec, folder) < 1e-5
    save_file({"linear.weight": torch.randn(7, 32)}, folder / "2_Dense" / "model.safetensors")
    with pytest.raises(SpecError, match=r"linear.weight has shape \(7, 32\), config.json says \(8, 32\)"):
        append_head(network, spec, folder)


def compare_with_torch(folder, spec, source) -> float:
    """Largest difference between OpenVINO's vectors and torch's."""
    from nimbed._tokenize import TextTokenizer, load_tokenizer
    from nimbed._types import OpenRequest, TokenBatch
    from nimbed.backends import open_backend

    tokenizer = TextTokenizer(load_tokenizer(source), spec, max_length=spec.max_length, truncate="silent")
    batch = TokenBatch.from_sequences(tokenizer(TEXTS).sequences)
    vectors = []
    for backend, place in (("openvino", folder), ("torch", source)):
        opened = open_backend(backend, OpenRequest(folder=place, spec=spec, precision="fp32", threads=1))
        vectors.append(opened.session().run(batch))
    return float(np.abs(vectors[0] - vectors[1]).max())


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
    assert artefact.manifest.calibration == {"origin": "quantised by the model's authors"}
    with Encoder(artefact) as encoder, Encoder(tiny_onnx, precision="fp32") as reference:
        a, b = encoder.encode(TEXTS), reference.encode(TEXTS)
    assert ((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).min() > 0.9
    with pytest.raises(InputError, match="is quantised already"):
        quantize(folder, tmp_path / "fp32", precision="fp32", source=source, progress=False)
    assert not (tmp_path / "fp32").exists()


def test_calibration_on_the_users_texts(tiny_onnx, tmp_path, peps):
    made = quantize(
        tiny_onnx, tmp_path / "a", calibration=Calibration(texts=peps[:40], count=16, seed=1), progress=False
    )
    assert made.manifest.calibration["origin"] == "the user's texts"
    assert made.manifest.calibration["count"] == 16
    file = tmp_path / "texts.jsonl"
    file.write_text("".join(json.dumps({"text": t}) + "\n" for t in peps[:40]))
    again = quantize(tiny_onnx, tmp_path / "b", calibration=Calibration(texts=file, count=16, seed=1), progress=False)
    assert again.manifest.calibration == made.manifest.calibration
    with pytest.raises(InputError, match="made from other inputs"):
        quantize(tiny_onnx, tmp_path / "a", calibration=peps[:5], progress=False)


def test_choice_is_stratified_and_seeded():
    texts = ["word " * n for n in np.random.default_rng(0).permutation(np.arange(1, 1001))]

    def tokenize(some):
        return [np.zeros(len(text.split()), np.int32) for text in some]

    first = choose(texts, tokenize, count=50, seed=3, origin="test")
    assert first.record == choose(texts, tokenize, count=50, seed=3, origin="test").record
    assert first.record != choose(texts, tokenize, count=50, seed=4, origin="test").record
    whole, excerpts = first.calibrate[:50], first.calibrate[50:]
    assert all(20 * i < n <= 20 * (i + 1) for i, n in enumerate(sorted(map(len, whole))))
    assert len(excerpts) == 50
    assert all(1 <= len(s) <= 160 / 5 for s in excerpts)
    held_out = {len(s) for s in first.held_out[:64]}
    assert len(held_out) == 64
    assert not held_out & {len(s) for s in whole}
    few = choose(texts[:3], tokenize, count=50, seed=0, origin="test")
    assert (few.record["count"], few.record["held_out"]) == (3, 0)


@given(text=st.text(), seed=st.integers(0, 99))
def test_an_excerpt_is_part_of_its_text(text, seed):
    excerpt = _excerpt(text, np.random.default_rng(seed))
    assert excerpt in text
    assert bool(excerpt) == bool(text)
    assert len(excerpt) <= 160


def test_shipped_texts_are_real_and_attributed():
    from importlib import resources

    texts = read_texts(None)
    assert len(texts) == 384
    assert sum(len(t) for t in texts) > 200_000
    notice = (resources.files("nimbed.quantization") / "data" / "ATTRIBUTION.md").read_text()
    assert "public domain" in notice


@pytest.mark.parametrize(
    ("calibration", "says"),
    [
        ([], "at least one text"),
        (["a", 3], "item 1 is int"),
        (Calibration(texts="no-such-file.jsonl"), "does not exist"),
    ],
)
def test_bad_calibration(calibration, says, tiny_onnx, tmp_path):
    with pytest.raises((InputError, TypeError), match=says):
        quantize(tiny_onnx, tmp_path / "out", calibration=calibration, progress=False)
    assert list(tmp_path.iterdir()) == []


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
    with pytest.raises(BuildError, match=r"model\.safetensors could not be exported"):
        quantize(broken, tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()


def test_pickled_weights_are_not_read(tiny_folder, tmp_path):
    folder = shutil.copytree(tiny_folder, tmp_path / "pickled", ignore=shutil.ignore_patterns("*.safetensors"))
    (folder / "pytorch_model.bin").write_bytes(b"a pickle")
    with pytest.raises(FileNotFoundError, match=r"pytorch_model.bin is a pickle"):
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


def test_an_artefact_cannot_be_quantised_again(minilm_int8):
    with pytest.raises(InputError, match="is an artefact already"):
        quantize(minilm_int8)
