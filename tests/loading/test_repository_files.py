"""Of a repository's files those that an engine needs, by their names alone."""

from __future__ import annotations

import pytest

from nimbed._loading.hub import Source
from nimbed._loading.repository_files import matching, needed_files
from nimbed.errors import InputError, ModelNotFoundError

SETTINGS = ["config.json", "1_Pooling/config.json", "tokenizer.json"]
OTHERS = ["modeling.py", "tf_model.h5", "checkpoints/1/config.json", "colbert_linear.pt"]


def needed(*files: str, engine: str = "native", file: str | None = None) -> set[str]:
    return set(needed_files("some/model", [*SETTINGS, *OTHERS, *files], Source(file=file), engine)) - set(SETTINGS)


def test_one_form_of_the_network():
    both = ("model.safetensors", "pytorch_model.bin", "onnx/model.onnx")
    assert needed(*both) == {"model.safetensors"}
    assert needed(*both, engine="openvino") == {"onnx/model.onnx"}
    assert needed(*both, engine="auto") == set()
    assert needed(*both, file="pytorch_model.bin") == {"pytorch_model.bin"}
    assert needed("pytorch_model.bin") == {"pytorch_model.bin"}


def test_layers_behind_the_pooling_are_pickled_only_where_they_are_alone():
    whole = ("model.safetensors", "2_Dense/model.safetensors", "2_Dense/pytorch_model.bin", "3_Dense/pytorch_model.bin")
    assert needed(*whole) == {"model.safetensors", "2_Dense/model.safetensors", "3_Dense/pytorch_model.bin"}


def test_templates_are_settings():
    assert needed("model.safetensors", "chat_template.jinja", "more/x.jinja") == {
        "model.safetensors",
        "chat_template.jinja",
    }


def test_adapters_are_for_engines_that_add_them():
    files = ("model.safetensors", "adapters/one/adapter_config.json", "adapters/one/adapter_model.safetensors")
    assert needed(*files) == set(files)
    assert needed(*files, engine="torch") == set(files[:2])


def test_nothing_that_can_be_read():
    with pytest.raises(ModelNotFoundError, match=r"some/model: found none of model\.safetensors.*pytorch_model\.bin"):
        needed()
    with pytest.raises(InputError, match=r"no such file in some/model, which has pytorch_model\.bin"):
        needed("pytorch_model.bin", file="model.safetensors")


def test_stars_do_not_reach_into_folders():
    assert matching(["a.json", "b/a.json", "b/c/a.json"], ["*.json", "b/*.json"]) == ["a.json", "b/a.json"]
