"""The files that a network's weights lie in: which are read, hashed and computed with, on every engine."""

from __future__ import annotations

import json
import shutil
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pytest
import safetensors.numpy
from tests.support.cross_encoders import write_cross_encoder
from tests.support.graphs import onnx_with
from tests.support.model_folders import candidate_of

from nimbed import Encoder, Source
from nimbed._loading.build import make_request
from nimbed._model_folder.network_file import graph_file
from nimbed._model_folder.weights import named_files, read_network, weight_files
from nimbed.backends import BACKENDS
from nimbed.backends import torch as torch_engine
from nimbed.backends.native import read_packed
from nimbed.errors import InputError, NimbedError, SpecError
from nimbed.quantization.openvino.graph import load_network
from nimbed.spec import read_spec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

USUAL = Source()
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
TEXTS = ["one text", "another that is longer than it"]
NORM = "embeddings.LayerNorm.weight"
LAYER = "encoder.layer.1.attention.self.query.weight"


@pytest.fixture
def folder(tiny_folder, tmp_path):
    return shutil.copytree(tiny_folder, tmp_path / "model")


def tensors_of(folder: Path) -> dict[str, np.ndarray]:
    return safetensors.numpy.load_file(folder / "model.safetensors")


def save(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    safetensors.numpy.save_file(dict(tensors), path, {"format": "pt"})


def split(folder: Path, *names: str) -> None:
    """The network in parts of these names."""
    tensors = tensors_of(folder)
    (folder / "model.safetensors").unlink()
    places = {tensor: names[n % len(names)] for n, tensor in enumerate(sorted(tensors))}
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        save(folder / name, {tensor: tensors[tensor] for tensor, place in places.items() if place == name})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))


def read_natively(folder: Path, source: Source = USUAL) -> dict[str, np.ndarray]:
    arrays, _ = read_packed(folder, graph_file(folder, source.file, BACKENDS["native"]), read_spec(folder))
    return {name: np.array(values) for name, values in arrays.items()}  # some are views of files that will change


def read_by_torch(folder: Path, source: Source = USUAL) -> object:
    with Encoder(folder, backend="torch", source=source, cache=None) as encoder:
        return encoder.encode(TEXTS)


def export(folder: Path, source: Source = USUAL) -> object:
    return load_network(make_request(candidate_of(folder, source=source), "fp32", source=source))


READERS: dict[str, Callable[..., object]] = {"native": read_natively, "openvino": export, "torch": read_by_torch}


def fingerprint(folder: Path) -> str:
    with Encoder(folder, backend="torch") as encoder:
        return encoder.fingerprint


def key(folder: Path) -> str:
    return make_request(candidate_of(folder), "int8", source=Source()).key


@pytest.mark.parametrize("names", [("model-00001-of-00002.safetensors", "2.safetensors"), ("a.safetensors", "b/c.bin")])
def test_parts_of_any_name_give_the_same_vectors(folder, names):
    whole = read_by_torch(folder)
    natively = read_natively(folder)
    split(folder, *names)
    np.testing.assert_array_equal(read_by_torch(folder), whole)
    for name, values in read_natively(folder).items():
        np.testing.assert_array_equal(values, natively[name])


def test_a_stray_part_changes_nothing(folder):
    split(folder, "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    vectors, before = read_by_torch(folder), (fingerprint(folder), key(folder))
    stray = {name: np.flip(values) for name, values in tensors_of_parts(folder).items()}
    save(folder / "model-00001-of-00003.safetensors", stray)
    np.testing.assert_array_equal(read_by_torch(folder), vectors)
    found = read_natively(folder)["embedding_norm.gamma"][: len(expected := tensors_of_parts(folder)[NORM])]
    np.testing.assert_array_equal(found, expected)
    assert (fingerprint(folder), key(folder)) == before


def tensors_of_parts(folder: Path) -> dict[str, np.ndarray]:
    return {name: np.array(values) for name, values in read_network(folder / "model.safetensors.index.json").items()}


@pytest.mark.parametrize("part", ["one.safetensors", "two.safetensors"])
def test_new_weights_in_any_part_are_another_key_and_fingerprint(folder, part):
    split(folder, "one.safetensors", "two.safetensors")
    before = fingerprint(folder), key(folder)
    save(folder / part, {name: v + np.float32(0.1) for name, v in safetensors.numpy.load_file(folder / part).items()})
    assert fingerprint(folder) != before[0]
    assert key(folder) != before[1]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (
            lambda f: (f / "two.safetensors").unlink(),
            r"two\.safetensors is missing, but .*index\.json names",
        ),
        (lambda f: (f / "two.safetensors").write_bytes(POINTER), "two.*Git LFS pointer.*git lfs pull"),
        (lambda f: save(f / "two.safetensors", {"x": np.zeros(1)}), "two.safetensors has .*, which it has not"),
        (lambda f: write_map(f, {"x": "../one.safetensors"}), "no file within its folder"),
        (lambda f: write_map(f, {}), "weight_map"),
        (lambda f: write_map(f, {"x": 3}), "weight_map"),
    ],
)
def test_an_index_that_does_not_fit_is_refused_everywhere(folder, change, why):
    split(folder, "one.safetensors", "two.safetensors")
    change(folder)
    for read in READERS.values():
        with pytest.raises(SpecError, match=why):
            read(folder)


def write_map(folder: Path, places: Mapping[str, object]) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))


@pytest.mark.parametrize("engine", READERS)
@pytest.mark.parametrize(
    ("lost", "cut"), [(LAYER, False), (NORM, False), ("embeddings.word_embeddings.weight", False), (None, True)]
)
def test_missing_weights_are_not_made_up(folder, engine, lost, cut):
    tensors = {name: v for name, v in tensors_of(folder).items() if name != lost and not (cut and "layer.1" in name)}
    save(folder / "model.safetensors", tensors)
    with pytest.raises(SpecError, match=r"model\.safetensors lacks " + (lost or r"encoder\.layer\.1")):
        READERS[engine](folder)


@pytest.mark.parametrize("engine", ["native", "torch"])
@pytest.mark.parametrize("setting", ["vocab_size", "max_position_embeddings", "type_vocab_size"])
def test_a_table_of_other_rows_than_the_settings_say_is_told_at_open(folder, engine, setting):
    config = json.loads((folder / "config.json").read_text())
    config[setting] += 1
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(SpecError, match=r"model\.safetensors"):
        READERS[engine](folder)


def test_only_the_pooler_may_be_missing(folder):
    """OpenVINO's build of this folder is in other tests: torch warns while it traces, which is an error here."""
    assert not [name for name in tensors_of(folder) if "pooler" in name]
    read_natively(folder)
    read_by_torch(folder)


@pytest.mark.parametrize("lost", ["classifier.weight", "bert.pooler.dense.weight"])
@pytest.mark.parametrize("engine", ["openvino", "torch"])
def test_a_cross_encoder_without_its_head_is_refused(tmp_path, engine, lost):
    from nimbed import Reranker

    folder = write_cross_encoder(tmp_path / "scores")
    tensors = tensors_of(folder)
    assert tensors.pop(lost) is not None
    save(folder / "model.safetensors", tensors)
    read = export if engine == "openvino" else partial(Reranker, backend="torch")
    with pytest.raises(SpecError, match=f"lacks {lost}"):
        read(folder)


@pytest.mark.parametrize("engine", READERS)
@pytest.mark.parametrize("name", ["embeddings.word_embeddings.weight", LAYER])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_named(folder, engine, name, value):
    tensors = tensors_of(folder)
    tensors[name][-1, -1] = value
    save(folder / "model.safetensors", tensors)
    with pytest.raises(SpecError, match=rf"model\.safetensors: {name} has numbers that are NaN or infinite"):
        READERS[engine](folder)


def test_a_graphs_weights_are_looked_at_too(tiny_onnx, tmp_path):
    import openvino as ov

    folder = shutil.copytree(tiny_onnx, tmp_path / "graph")
    graph = ov.Core().read_model(folder / "onnx" / "model.onnx")
    (folder / "openvino").mkdir()
    path = folder / "openvino" / "openvino_model.xml"
    ov.save_model(graph, path, compress_to_fp16=False)
    export(folder)
    weights = np.fromfile(path.with_suffix(".bin"), np.float32)
    weights[np.flatnonzero(np.abs(weights) > 1e-3)[-1]] = np.nan
    weights.tofile(path.with_suffix(".bin"))
    with pytest.raises(SpecError, match="NaN or infinite"):
        export(folder)


def test_masks_of_a_graph_may_be_infinite(tmp_path):
    from nimbed._model_folder.weights import refuse_not_finite

    mask = np.triu(np.full((4, 4), -np.inf, np.float32), 1)
    sound = {"mask": mask, "fill": np.float32(-np.inf), "ids": np.arange(3), "none": np.zeros((0, 2))}
    refuse_not_finite(tmp_path, sound)
    refuse_not_finite(tmp_path, {"wide": np.float64([[0, -1e308], [0, 0]]), "large": np.float64([1e38, -1e38])})
    for bad in (np.float16([0, 1, -np.inf]), np.float64([1, -1e39]), np.float64([0, np.nan])):
        with pytest.raises(SpecError, match="bias"):
            refuse_not_finite(tmp_path, {"bias": bad})


@pytest.mark.parametrize("values", [[np.inf], [0, -np.inf, 0], [1e39]])
def test_what_is_learned_is_no_mask(values, tmp_path):
    from nimbed._model_folder.weights import refuse_not_finite

    with pytest.raises(SpecError, match=r"classifier\.bias has numbers"):
        refuse_not_finite(tmp_path, {"classifier.bias": np.float64(values)})


@pytest.mark.parametrize("engine", READERS)
def test_the_file_that_was_asked_for_is_the_one_computed_with(folder, engine):
    save(folder / "other.safetensors", {NORM: tensors_of(folder)[NORM]})
    with pytest.raises(SpecError, match=r"other\.safetensors lacks"):
        READERS[engine](folder, Source(file="other.safetensors"))


def test_another_file_gives_its_own_vectors(folder):
    usual = read_by_torch(folder)
    save(folder / "other.safetensors", {name: np.flip(values) for name, values in tensors_of(folder).items()})
    other = read_by_torch(folder, Source(file="other.safetensors"))
    assert np.abs(other - usual).max() > 0.01
    shutil.copyfile(folder / "other.safetensors", folder / "model.safetensors")
    np.testing.assert_array_equal(read_by_torch(folder), other)


@pytest.mark.parametrize("engine", ["native", "torch"])
def test_a_graph_is_nothing_for_engines_that_read_weights(tiny_onnx, engine):
    with pytest.raises(InputError, match=f"not of a kind that backend='{engine}' reads: .safetensors"):
        Encoder(tiny_onnx, backend=engine, source=Source(file="onnx/model.onnx"))


def test_a_dense_layer_is_read_by_the_same_rules(folder):
    from nimbed._model_folder.weights import read_dense
    from nimbed._types import DenseSpec

    dense = DenseSpec(weights="d.safetensors", in_features=4, out_features=2, bias=False, activation="tanh")
    save(folder / "d.safetensors", {"linear.weight": np.ones((2, 4), np.float16)})
    assert read_dense(folder, dense)["linear.weight"].dtype == np.float32
    for tensors, why in (
        ({"linear.weight": np.full((2, 4), np.nan)}, "NaN"),
        ({"linear.weight": np.ones((2, 3))}, r"shape \(2, 3\)"),
        ({"weight": np.ones((2, 4))}, "shape None"),
    ):
        save(folder / "d.safetensors", tensors)
        with pytest.raises(SpecError, match=why):
            read_dense(folder, dense)


@pytest.mark.parametrize("name", ["tokenizer.json", "config.json", "modules.json"])
def test_git_lfs_pointers_in_place_of_settings_say_what_to_do(folder, name):
    (folder / name).write_bytes(POINTER)
    for backend in ("openvino", "torch"):
        with pytest.raises(SpecError, match=rf"{name} is a Git LFS pointer.*git lfs pull"):
            Encoder(folder, backend=backend)


@pytest.mark.parametrize("name", ["model.safetensors", "onnx/model.onnx"])
def test_git_lfs_pointers_say_what_to_do(folder, name):
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(POINTER)
    with pytest.raises(SpecError, match="git lfs pull"):
        weight_files(folder / name)
    with pytest.raises(SpecError, match="git lfs pull"):
        Encoder(folder, precision="fp32", source=Source(file=name))


def test_weights_in_8_bits_say_who_runs_them(folder):
    import torch
    from safetensors.torch import save_file

    save_file({LAYER: torch.ones(4).to(torch.float8_e4m3fn)}, folder / "model.safetensors")
    for read in READERS.values():
        with pytest.raises(SpecError, match=rf"{LAYER} is in F8_E4M3.*GPUs.*bf16, fp16 or fp32"):
            read(folder)


@pytest.mark.parametrize("engine", READERS)
def test_an_adapter_is_refused_with_the_remedy(folder, engine):
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(SpecError, match=r"adapter_config\.json.*merge_and_unload\(\)\.save_pretrained"):
        READERS[engine](folder)


def test_onnx_weights_are_those_that_the_graph_names(tmp_path):
    graph = tmp_path / "model.onnx"
    graph.write_bytes(onnx_with("weights", "./weights", "sub/more.data"))
    (tmp_path / "model.onnx_data").write_bytes(b"stray")
    assert named_files(graph) == ["sub/more.data", "weights"]
    with pytest.raises(SpecError, match=r"sub/more\.data is missing, but model\.onnx names it"):
        weight_files(graph)
    (tmp_path / "sub").mkdir()
    for name in ("sub/more.data", "weights"):
        (tmp_path / name).write_bytes(b"w")
    assert weight_files(graph) == [graph, tmp_path / "sub/more.data", tmp_path / "weights"]
    for wrong in ("../weights", "/etc/passwd"):
        graph.write_bytes(onnx_with(wrong))
        with pytest.raises(SpecError, match="no file within its folder"):
            named_files(graph)


def test_the_onnx_package_names_the_same(tmp_path):
    onnx = pytest.importorskip("onnx")
    tensor = onnx.numpy_helper.from_array(np.ones(3000, np.float32), "w")
    inner = onnx.helper.make_graph([], "inner", [], [], [onnx.numpy_helper.from_array(np.ones(3000, np.float32), "v")])
    node = onnx.helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)
    graph = onnx.helper.make_graph([node], "g", [], [], [tensor])
    onnx.save(onnx.helper.make_model(graph), tmp_path / "m.onnx", save_as_external_data=True, location="all.bin")
    assert named_files(tmp_path / "m.onnx") == ["all.bin"]
    content = (tmp_path / "m.onnx").read_bytes()
    for end in range(1, len(content)):
        (tmp_path / "m.onnx").write_bytes(content[:end])
        try:
            assert set(named_files(tmp_path / "m.onnx")) <= {"all.bin"}
        except SpecError:
            continue


def test_vectors_that_are_not_finite_are_an_error_and_not_kept(folder, monkeypatch):
    run = torch_engine.TorchSession.run

    def spoiled(session: torch_engine.TorchSession, batch: object) -> np.ndarray:
        vectors = run(session, batch)
        vectors[-1, 3] = np.inf if bad else vectors[-1, 3]
        return vectors

    monkeypatch.setattr(torch_engine.TorchSession, "run", spoiled)
    with Encoder(folder, backend="torch") as encoder:
        bad = True
        for _ in range(2):
            with pytest.raises(NimbedError, match="not finite, for 1 of"):
                encoder.encode(TEXTS)
        assert encoder.stats().cache.entries == 0
        bad = False
        assert np.isfinite(encoder.encode(TEXTS)).all()


def test_weights_that_overflow_are_an_error(folder):
    tensors = tensors_of(folder)
    tensors[NORM] *= np.float32(1e38)
    tensors[LAYER] *= np.float32(1e38)
    save(folder / "model.safetensors", tensors)
    with Encoder(folder, backend="torch") as encoder, pytest.raises(NimbedError, match="not finite"):
        encoder.encode(TEXTS)
