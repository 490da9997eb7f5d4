"""Which files of a folder count, and what is hashed of them."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest

from nimbed._files.digests import sha256_of
from nimbed._model_folder.files import model_files
from nimbed._model_folder.safetensors import write_tensors
from nimbed._types import DenseSpec, ModelSpec
from nimbed.errors import SpecError

SPEC = ModelSpec(architecture="bert", hidden_size=16, dim=16, pooling="mean", normalize=True, max_length=8, origins={})
DENSE = DenseSpec(weights="2_Dense/model.safetensors", in_features=16, out_features=16, bias=False, activation="tanh")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "2_Dense").mkdir()
    for number, name in enumerate(("model.safetensors", "2_Dense/model.safetensors")):
        write_tensors(tmp_path / name, {"a": np.full(16, number, np.float32)}, {})
    for name in ("config.json", "tokenizer.json", "README.md"):
        (tmp_path / name).write_text(name)
    return tmp_path


def test_a_lone_files_hash_is_its_own(folder):
    files = model_files(folder, folder / "model.safetensors", SPEC)
    assert files.weights == (folder / "model.safetensors",)
    assert files.weights_sha256 == sha256_of(folder / "model.safetensors")
    assert [path.name for path in files.settings] == ["config.json", "tokenizer.json"]


def test_of_several_files_a_list_of_hashes_is_hashed(folder):
    from dataclasses import replace

    files = model_files(folder, folder / "model.safetensors", replace(SPEC, dense=(DENSE,)))
    assert files.weights == (folder / "model.safetensors", folder / DENSE.weights)
    listed = "\n".join(map(sha256_of, files.weights))
    assert files.weights_sha256 == hashlib.sha256(listed.encode()).hexdigest()


@pytest.mark.parametrize(
    ("name", "counts"),
    [("model.safetensors", True), ("config.json", True), ("tokenizer.json", True), ("README.md", False)],
)
def test_what_can_change_a_vector_changes_the_digest(name, counts, folder):
    def digest():
        return model_files(folder, folder / "model.safetensors", SPEC).digest

    before = digest()
    with (folder / name).open("ab") as file:
        file.write(b" ")
    assert (digest() != before) == counts


def test_a_file_that_is_added_counts(folder):
    before = model_files(folder, folder / "model.safetensors", SPEC)
    (folder / "tokenizer_config.json").write_text("{}")
    after = model_files(folder, folder / "model.safetensors", SPEC)
    assert after.settings_sha256 != before.settings_sha256
    assert after.weights_sha256 == before.weights_sha256


def test_weights_that_are_named_but_not_there(folder):
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "model-1.safetensors"}}))
    with pytest.raises(SpecError, match=r"model-1\.safetensors is missing, but .*\.index\.json names it"):
        model_files(folder, index, SPEC)


def test_a_file_that_goes_before_it_is_hashed(folder):
    files = model_files(folder, folder / "model.safetensors", SPEC)
    (folder / "model.safetensors").unlink()
    with pytest.raises(SpecError, match=r"model\.safetensors cannot be read: .*fetch the folder again"):
        _ = files.weights_sha256
