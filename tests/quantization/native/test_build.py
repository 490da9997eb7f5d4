"""The native engine's build: numpy's exact pass, rounding, refusals, and what ``auto`` makes of them."""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.building import build_here
from tests.support.networks import write_folder
from tests.support.planted import sensitive_model

from nimbed import Calibration, Encoder, quantize
from nimbed._loading import auto, build
from nimbed._loading.artefact import open_artefact
from nimbed._loading.describe import describe
from nimbed._types import TokenBatch
from nimbed.backends import BACKENDS, engine_module, open_backend
from nimbed.backends.protocol import OpenRequest
from nimbed.errors import ArtefactError, BackendError, MissingExtraError, QualityError, SpecError
from nimbed.quantization import QualityGate
from nimbed.quantization.calibration import read_texts
from nimbed.quantization.native import build as native_build
from nimbed.spec import SpecOverrides

pytestmark = pytest.mark.usefixtures("native")
through_openvino = pytest.mark.skipif(
    "NIMBED_NATIVE_LIBRARY" in os.environ, reason="OpenVINO ends the process under another allocator, a sanitizer's too"
)

unsanitized = pytest.mark.skipif(
    "NIMBED_NATIVE_LIBRARY" in os.environ, reason="what is chosen here is Python's; a sanitizer takes minutes for it"
)


@pytest.fixture(scope="module", params=[False, True], ids=["sensitive", "planted outliers"])
def spoiled(request, tiny_folder, tmp_path_factory):
    return sensitive_model(tiny_folder, tmp_path_factory.mktemp("models") / "spoiled", outliers=request.param)


def test_a_build_is_the_same_every_time(tiny_folder, tmp_path):
    made = [quantize(tiny_folder, tmp_path / name, backend="native", progress=False) for name in ("a", "b")]
    assert made[0].manifest.digest == made[1].manifest.digest


def test_weights_in_parts_and_in_bfloat16(tiny_folder, tmp_path, monkeypatch):
    import torch
    import transformers

    parts = shutil.copytree(tiny_folder, tmp_path / "parts", ignore=shutil.ignore_patterns("*.safetensors"))
    model = transformers.BertModel.from_pretrained(tiny_folder, add_pooling_layer=False)
    model.to(torch.bfloat16).save_pretrained(parts, max_shard_size="1MB")
    assert len(list(parts.glob("model-*-of-*.safetensors"))) > 1
    with Encoder(parts, backend="native") as found, Encoder(tiny_folder, backend="torch") as exact:
        a, b = found.encode(["one", "two words"]), exact.encode(["one", "two words"])
    assert ((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).min() > 0.999


@pytest.mark.parametrize("texts", [["The quick brown fox jumps over the lazy dog."], ["a a a a"] * 64, None])
def test_sabotage_passes_the_gate_or_is_refused(texts, spoiled, tmp_path):
    try:
        made = quantize(spoiled, tmp_path / "out", calibration=texts, backend="native", progress=False)
    except QualityError:
        assert list(tmp_path.iterdir()) == []
        return
    assert made.manifest.quality["missed"] == []
    with Encoder(made) as found, Encoder(spoiled, backend="torch") as exact:
        a, b = found.encode(["one", "two words, and more"]), exact.encode(["one", "two words, and more"])
    assert ((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).min() > 0.99


@unsanitized
def test_a_missed_gate_brings_second_passes_for_the_texts_that_fare_worst(tmp_path):
    folder = write_folder("bert", tmp_path / "model", variant="planted")
    texts, found = read_texts(None), {}
    for name, least in (("as it comes", 0.9), ("mended", 0.9999)):
        made = build_here(
            folder,
            tmp_path / name,
            backend="native",
            calibration=Calibration(texts=[*texts[:60], *texts[-60:]], count=40),
            gate=QualityGate(min_cosine=least),
            force=True,
        )
        found[name] = made.manifest
    before, after = found["as it comes"], found["mended"]
    assert before.quality["min_cosine"] < 0.9999
    assert before.second_pass is None
    assert after.second_pass["error_after"] < after.second_pass["error_before"]
    assert after.quality["min_cosine"] > before.quality["min_cosine"]


@unsanitized
def test_a_missed_gate_brings_a_rotation_of_the_residual_where_that_is_nearer(tmp_path):
    folder = write_folder("qwen3", tmp_path / "model", variant="planted")
    texts, found = read_texts(None), {}
    options = {"backend": "native", "calibration": Calibration(texts=[*texts[:60], *texts[-60:]], count=40)}
    for name, least in (("as it comes", 0.9), ("rotated", 0.9999)):
        made = build_here(folder, tmp_path / name, gate=QualityGate(min_cosine=least), force=True, **options)
        found[name] = made.manifest
        assert ("residual stream rotated" in describe(made)) == made.manifest.rotated == (name == "rotated")
    assert found["rotated"].quality["min_cosine"] > found["as it comes"].quality["min_cosine"]
    assert found["rotated"].quality["mean_cosine"] > found["as it comes"].quality["mean_cosine"]
    again = build_here(folder, tmp_path / "again", gate=QualityGate(min_cosine=0.9999), force=True, **options)
    assert again.manifest.digest == found["rotated"].digest


@unsanitized
def test_a_rotation_that_is_not_nearer_is_left(tmp_path, monkeypatch):
    folder = write_folder("qwen3", tmp_path / "model", variant="planted")
    monkeypatch.setattr(
        native_build, "rotated", lambda arrays, settings: ({**arrays, "words": 0 * arrays["words"]}, settings)
    )
    options = {"backend": "native", "calibration": Calibration(count=40), "gate": QualityGate(min_cosine=1.0)}
    assert not build_here(folder, tmp_path / "made", force=True, **options).manifest.rotated


@unsanitized
def test_of_a_large_network_fewer_texts_are_looked_at_for_those_that_fare_worst(tmp_path, monkeypatch):
    folder, looked_at = write_folder("bert", tmp_path / "model", variant="planted"), []
    near = native_build.closeness
    monkeypatch.setattr(native_build, "closeness", lambda a, b: looked_at.append(len(a)) or near(a, b))
    for multiplications in (native_build._SEEKING, 1):
        monkeypatch.setattr(native_build, "_SEEKING", multiplications)
        options = {"backend": "native", "calibration": Calibration(count=40), "gate": QualityGate(min_cosine=1.0)}
        build_here(folder, tmp_path / str(multiplications), force=True, **options)
    many, one = looked_at
    assert many > 40
    assert one == 1


@pytest.mark.parametrize(("rows", "added", "kept"), [
    (99, 1e-5, "int8"), (99, 3e-5, "bf16"), (100, 3e-5, "int8"), (100, 6e-5, "bf16"),
])  # fmt: skip
def test_a_large_table_of_words_may_cost_more(rows, added, kept, monkeypatch):
    monkeypatch.setattr(native_build, "_LARGE_TABLE", 100)
    arrays = {"words": np.ones((rows, 64), np.float32)}
    _, settings = native_build._with_smaller_words(arrays, {}, lambda *_: added)
    assert settings["words"] == kept


def test_a_refusal_is_remembered_and_auto_takes_fp32(tiny_folder, tmp_path, in_process, monkeypatch):
    monkeypatch.setenv("NIMBED_HOME", str(tmp_path))
    builds = []

    def refuse(request, *, progress):
        builds.append(request.engine)
        raise QualityError("int8 is too far from fp32")

    monkeypatch.setattr(build, "_run_child", refuse)
    for _ in range(2):
        with Encoder(tiny_folder) as encoder:
            assert (encoder.info.backend, encoder.info.precision) == ("native", "fp32")
            assert "int8 failed its quality gate" in encoder.info.reasons["precision"]
    assert builds == ["native"]
    with pytest.raises(QualityError, match="as found before"):
        quantize(tiny_folder, progress=False)
    with pytest.raises(QualityError, match="as found before"):
        Encoder(tiny_folder, precision="int8")


@through_openvino
def test_auto_says_why_not(tiny_folder, tiny_onnx, in_process, tmp_path):
    for precision, taken in (("auto", "int8"), ("fp32", "fp32")):
        with Encoder(tiny_folder, precision=precision) as encoder:
            assert (encoder.info.backend, encoder.info.precision) == ("native", taken)
    for settings_, why in (
        ({"model": tiny_onnx, "precision": "int8"}, "found none of model.safetensors"),
        ({"model": tiny_folder, "spec": SpecOverrides(pooling="weightedmean")}, "no weightedmean pooling"),
    ):
        with Encoder(**settings_) as encoder:
            assert encoder.info.backend == "openvino"
            assert why in encoder.info.reasons["backend"]


def test_what_it_does_not_run_is_refused_by_name(tiny_folder, tmp_path):
    config = json.loads((tiny_folder / "config.json").read_text())
    for change, why in (
        ({"model_type": "t5"}, "runs .*bert.*not t5"),
        ({"hidden_act": "mish"}, "hidden_act: "),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type"),
        ({"num_attention_heads": 5}, "num_attention_heads"),
        ({"num_hidden_layers": 0}, "num_hidden_layers"),
        ({"num_hidden_layers": 3}, r"lacks .*layer\.2"),
        ({"intermediate_size": 32}, r"has the shape \[64, 32\]"),
    ):
        folder = tmp_path / str(abs(hash(why)))
        shutil.copytree(tiny_folder, folder)
        (folder / "config.json").write_text(json.dumps({**config, **change}))
        for precision in ("int8", "fp32"):
            with pytest.raises(SpecError, match=why):
                Encoder(folder, backend="native", precision=precision)


@through_openvino
def test_without_the_extension_auto_takes_openvino(tiny_folder, in_process, monkeypatch):
    monkeypatch.setitem(sys.modules, "nimbed._native", None)
    auto.native_missing.cache_clear()
    try:
        with Encoder(tiny_folder, precision="fp32") as encoder:
            assert "not compiled" in encoder.info.reasons["backend"]
        monkeypatch.delitem(sys.modules, "nimbed.backends.native", raising=False)
        with pytest.raises(MissingExtraError, match=r"C\+\+ compiler"):
            engine_module("native")
    finally:
        auto.native_missing.cache_clear()


def test_a_bundle_without_the_engines_module_says_what_it_lacks(monkeypatch):
    monkeypatch.setitem(BACKENDS, "native", replace(BACKENDS["native"], module="nimbed.backends.left_out"))
    with pytest.raises(MissingExtraError, match="left out of this bundle"):
        engine_module("native")


@pytest.fixture(scope="module")
def tiny_native(tiny_folder, tmp_path_factory):
    return quantize(tiny_folder, tmp_path_factory.mktemp("built") / "tiny", backend="native", progress=False)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_damaged_engine_file_is_refused_or_harmless(data, tiny_native, tmp_path_factory):
    """The manifest's hashes tell every change; without them, the file's own header and the engine's settings do."""
    folder = shutil.copytree(tiny_native.folder, tmp_path_factory.mktemp("damaged") / "copy")
    path = folder / "encoder.safetensors"
    content = bytearray(path.read_bytes())
    header = 8 + int.from_bytes(content[:8], "little")
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    else:
        content[data.draw(st.integers(0, header - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    with pytest.raises(ArtefactError):
        open_artefact(folder)
    request = OpenRequest(folder=folder, spec=tiny_native.manifest.spec, precision="int8", threads=1)
    try:
        opened = open_backend("native", request)
    except (BackendError, ArtefactError):
        return
    finally:
        shutil.rmtree(folder)
    vectors = opened.session().run(TokenBatch.from_sequences([np.int32([101, 102])]))
    assert vectors.shape == (1, 32)


def test_a_file_that_is_written_into_while_it_is_open_gives_no_more_vectors(tiny_native, tmp_path):
    """Other weights over the old ones (cp): before, their vectors came under the old fingerprint."""
    folder = shutil.copytree(tiny_native.folder, tmp_path / "copy")
    path = folder / "encoder.safetensors"
    with Encoder(folder, cache=None) as encoder:
        vectors = encoder.encode(["a text", "another"])
        content = path.read_bytes()
        shutil.copyfile(path, tmp_path / "new")
        (tmp_path / "new").replace(path)  # as it should be done: the old one stays open
        np.testing.assert_array_equal(encoder.encode(["a text", "another"]), vectors)
    with Encoder(folder, cache=None) as encoder:
        with path.open("r+b") as file:
            file.write(content[:-64] + bytes(64))
        for role in ("query", "document"):
            with pytest.raises(ArtefactError, match=r"encoder\.safetensors was written into.*open the model again"):
                encoder.encode(["a text"], role=role)
