"""The same weights in other forms: pickled, in parts that are links, under names with a prefix."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tests.model_folder.test_weights import (
    NORM,
    READERS,
    USUAL,
    read_by_torch,
    read_natively,
    save,
    split,
    tensors_of,
)
from tests.support.graphs import onnx_with
from tests.support.model_folders import candidate_of

from nimbed._loading.build import make_request
from nimbed._model_folder.network_file import graph_file
from nimbed._model_folder.weights import read_network, weight_files
from nimbed.backends import BACKENDS
from nimbed.errors import SpecError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(tiny_folder, tmp_path):
    return shutil.copytree(tiny_folder, tmp_path / "model")


def pickled(folder: Path, *names: str) -> None:
    """The same weights as ``torch.save`` writes them, whole or in parts."""
    import torch

    tensors = {name: torch.from_numpy(values) for name, values in tensors_of(folder).items()}
    (folder / "model.safetensors").unlink()
    if not names:
        torch.save(tensors, folder / "pytorch_model.bin")
        return
    places = {tensor: names[n % len(names)] for n, tensor in enumerate(sorted(tensors))}
    for name in names:
        torch.save({tensor: tensors[tensor] for tensor, place in places.items() if place == name}, folder / name)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": places}))


@pytest.mark.parametrize("names", [(), ("pytorch_model-00001-of-00002.bin", "two")])
def test_pickled_weights_give_the_same_vectors(folder, names):
    by_torch, natively = read_by_torch(folder), read_natively(folder)
    pickled(folder, *names)
    np.testing.assert_array_equal(read_by_torch(folder), by_torch)
    for name, values in read_natively(folder).items():
        np.testing.assert_array_equal(values, natively[name])
    part = folder / (names[1] if names else "pytorch_model.bin")
    assert part in weight_files(graph_file(folder, None, BACKENDS["native"]))
    part.write_bytes(part.read_bytes().replace(b"PK\5\6", b"PK\5\7"))
    for read in READERS.values():
        with pytest.raises(SpecError, match=rf"{part.name} is no file of torch.save's, or damaged.*fetch it again"):
            read(folder)


def test_pickled_weights_of_two_encoders_are_refused(folder):
    import torch

    words = torch.zeros(4, 4)
    (folder / "model.safetensors").unlink()
    torch.save({f"{n}.embeddings.word_embeddings.weight": words for n in "ab"}, folder / "pytorch_model.bin")
    with pytest.raises(SpecError, match=r"pytorch_model\.bin holds two encoders"):
        make_request(candidate_of(folder), "int8", source=USUAL)


def test_a_dense_layer_may_be_pickled(folder):
    import torch

    from nimbed._model_folder.weights import read_dense
    from nimbed._types import DenseSpec

    torch.save({"linear.weight": torch.ones(2, 4)}, folder / "pytorch_model.bin")
    dense = DenseSpec(weights="pytorch_model.bin", in_features=4, out_features=2, bias=False, activation="tanh")
    np.testing.assert_array_equal(read_dense(folder, dense)["linear.weight"], np.ones((2, 4)))


@pytest.mark.parametrize("engine", READERS)
def test_a_part_that_is_a_link_out_of_the_folder_is_refused(folder, engine, tmp_path):
    split(folder, "one.safetensors", "two.safetensors")
    (folder / "two.safetensors").rename(tmp_path / "elsewhere")
    (folder / "two.safetensors").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(
        SpecError, match=r"two\.safetensors is a link that leads out of its folder.*index\.json names it"
    ):
        READERS[engine](folder)


def test_links_into_the_hubs_store_are_followed(folder, tmp_path):
    vectors = read_by_torch(folder)
    split(folder, "one.safetensors", "two.safetensors")
    model = tmp_path / "models--some--model"
    (model / "blobs").mkdir(parents=True)
    (model / "snapshots").mkdir()
    snapshot = folder.rename(model / "snapshots" / "0123")
    for name in ("one.safetensors", "two.safetensors"):
        (snapshot / name).rename(model / "blobs" / name)
        (snapshot / name).symlink_to(f"../../blobs/{name}")
    np.testing.assert_array_equal(read_by_torch(snapshot), vectors)


@pytest.mark.parametrize("prefix", ["bert.", "model.", "encoder.model."])
@pytest.mark.parametrize("engine", ["native"])
def test_names_may_have_a_prefix(folder, engine, prefix):
    before = READERS[engine](folder)
    save(folder / "model.safetensors", {prefix + name: values for name, values in tensors_of(folder).items()})
    for name, values in READERS[engine](folder).items():
        np.testing.assert_array_equal(values, before[name])


@pytest.mark.parametrize("engine", READERS)
@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_a_part_with_numbers_that_are_not_finite_is_named_by_tensor(folder, engine, value):
    tensors = tensors_of(folder)
    tensors[NORM][3] = value
    save(folder / "model.safetensors", tensors)
    split(folder, "one.safetensors", "two.safetensors")
    with pytest.raises(SpecError, match=rf"index\.json: {NORM} has numbers that are NaN or infinite"):
        READERS[engine](folder)


@pytest.mark.parametrize("engine", ["native", "torch"])
def test_pickled_numbers_that_are_not_finite_are_named_by_tensor(folder, engine):
    tensors = tensors_of(folder)
    tensors[NORM][3] = np.nan
    save(folder / "model.safetensors", tensors)
    pickled(folder)
    with pytest.raises(SpecError, match=rf"pytorch_model\.bin: {NORM} has numbers that are NaN or infinite"):
        READERS[engine](folder)


def test_tensors_that_the_network_does_not_have_are_refused_by_name_or_change_nothing(folder):
    before = read_by_torch(folder)
    extra = {"sparse_linear.weight": np.ones((1, 3), np.float16)}
    save(folder / "model.safetensors", {**tensors_of(folder), **extra})
    np.testing.assert_array_equal(read_by_torch(folder), before)
    with pytest.raises(SpecError, match=r"model\.safetensors: sparse_linear\.weight .* is no tensor of the network"):
        read_natively(folder)


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
@pytest.mark.parametrize("form", ["safetensors", "pickle"])
def test_half_weights_are_read_as_the_numbers_that_they_are(folder, kind, form):
    import torch
    from safetensors.torch import save_file

    halves = {name: torch.from_numpy(v).to(getattr(torch, kind)) for name, v in tensors_of(folder).items()}
    (folder / "model.safetensors").unlink()
    if form == "pickle":
        torch.save(halves, folder / "pytorch_model.bin")
    else:
        save_file(halves, folder / "model.safetensors")
    read = read_network(graph_file(folder, None, BACKENDS["native"]))
    for name, values in halves.items():
        np.testing.assert_array_equal(read[name].astype(np.float32), values.float().numpy())


def test_external_data_that_is_a_link_out_of_the_folder_is_refused(tmp_path):
    (tmp_path / "elsewhere").write_bytes(b"weights")
    (tmp_path / "folder").mkdir()
    graph = tmp_path / "folder" / "model.onnx"
    graph.write_bytes(onnx_with("weights"))
    (tmp_path / "folder" / "weights").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SpecError, match="weights is a link that leads out of its folder"):
        weight_files(graph)
