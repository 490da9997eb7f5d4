"""Local model folders: their name, and which of their files holds the network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nimbed._loading.hub import Source, resolve
from nimbed._model_folder.network_file import graph_file
from nimbed.backends import BACKENDS
from nimbed.errors import InputError, ModelNotFoundError

if TYPE_CHECKING:
    from pathlib import Path

OPENVINO = BACKENDS["openvino"]
IN_ORDER = [
    "openvino/openvino_model.xml",
    "openvino_model.xml",
    "onnx/model.onnx",
    "model.onnx",
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
]


def write(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("-")
    return folder


@pytest.mark.parametrize("first", range(len(IN_ORDER)))
def test_graphs_that_need_no_torch_come_first(tmp_path, first):
    folder = write(tmp_path, *IN_ORDER[first:])
    assert graph_file(folder, None, OPENVINO) == folder / IN_ORDER[first]


def test_the_user_chooses(tmp_path):
    folder = write(tmp_path, *IN_ORDER, "onnx/model_quantized.onnx")
    for name in ("onnx/model_quantized.onnx", "model.safetensors"):
        assert graph_file(folder, name, OPENVINO) == folder / name


@pytest.mark.parametrize("name", ["onnx/none.onnx", "openvino"])
def test_a_choice_that_is_not_there(tmp_path, name):
    folder = write(tmp_path, *IN_ORDER)
    with pytest.raises(InputError, match=f"file='{name}'") as caught:
        graph_file(folder, name, OPENVINO)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize("name", ["openvino/openvino_model.bin", "model.pt", "config.json", "tf_model.h5"])
def test_a_choice_that_holds_no_readable_network(tmp_path, name):
    folder = write(tmp_path, *IN_ORDER, name)
    with pytest.raises(InputError, match=rf"file='{name}'.*safetensors"):
        graph_file(folder, name, OPENVINO)


def test_a_choice_outside_the_folder(tmp_path):
    folder = write(tmp_path / "model", *IN_ORDER)
    write(tmp_path, "other.xml")
    for name in ("../other.xml", str(tmp_path / "other.xml")):
        with pytest.raises(InputError, match="relative to the model folder"):
            graph_file(folder, name, OPENVINO)


def test_a_folder_without_a_network(tmp_path):
    with pytest.raises(ModelNotFoundError, match=r"openvino_model\.xml.*model\.safetensors") as caught:
        graph_file(write(tmp_path, "config.json"), None, OPENVINO)
    assert str(tmp_path) in str(caught.value)


def test_a_local_folder_goes_before_a_hub_name(tmp_path, monkeypatch):
    folder = write(tmp_path / "owner" / "model", "config.json")
    monkeypatch.chdir(tmp_path)
    found = resolve("owner/model", Source())
    assert (found.name, found.folder, found.revision) == ("model", folder, None)


def test_the_home_folder_may_be_written_short(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    folder = write(tmp_path / "model", "config.json")
    assert resolve("~/model", Source()).folder == folder


def test_a_folder_within_the_hubs_cache_keeps_its_hub_id(tmp_path):
    folder = write(tmp_path / "models--BAAI--bge-m3" / "snapshots" / ("0" * 40), "config.json")
    assert resolve(folder, Source()).name == "BAAI/bge-m3"
