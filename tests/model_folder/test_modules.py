"""modules.json and the settings of each module, in both forms; what cannot be honoured names file and key."""

from __future__ import annotations

import json

import pytest

from nimbed._model_folder.modules import ModuleReader, module_names, torch_activation, transformer_settings
from nimbed.errors import SpecError

OLD = "sentence_transformers.models."
NEW = "sentence_transformers.sentence_transformer.modules.pooling."


def written(folder, **files: object):
    for name, content in files.items():
        path = folder / f"{name.replace('__', '/')}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content))
    return folder


def module(kind: str, path: object = "", prefix: str = OLD) -> dict[str, object]:
    return {"type": f"{prefix}{kind}", "path": path}


def read(folder, hidden_size=32):
    reader = ModuleReader(folder, hidden_size)
    reader.read()
    return reader


def test_a_folder_without_a_list_has_no_modules(tmp_path):
    reader = read(tmp_path)
    assert (reader.listed, reader.pooling, reader.dense, reader.normalize) == (False, None, [], False)
    assert module_names(tmp_path) == []


@pytest.mark.parametrize("prefix", [OLD, NEW])
def test_pooling_and_normalize(prefix, tmp_path):
    modules = [module("Transformer"), module("Pooling", "1_Pooling", prefix), module("Normalize", "2_Normalize")]
    written(tmp_path, modules=modules, **{"1_Pooling__config": {"pooling_mode_cls_token": True}})
    reader = read(tmp_path)
    assert (reader.listed, reader.pooling, reader.normalize) == (True, "cls", True)
    assert module_names(tmp_path) == ["Transformer", "Pooling", "Normalize"]


def test_each_dense_layer_reads_the_one_before_it(tmp_path):
    modules = [module("Transformer"), *(module("Dense", f"{n}_Dense") for n in (2, 3))]
    sizes = {2: (32, 8), 3: (8, 4)}
    configs = {f"{n}_Dense__config": {"in_features": i, "out_features": o} for n, (i, o) in sizes.items()}
    written(tmp_path, modules=modules, **configs)
    for number in sizes:
        (tmp_path / f"{number}_Dense" / "model.safetensors").touch()
    assert [(d.in_features, d.out_features, d.activation, d.bias) for d in read(tmp_path).dense] == [
        (32, 8, "tanh", True),
        (8, 4, "tanh", True),
    ]
    with pytest.raises(SpecError, match=r"2_Dense/config\.json: in_features: 32, but the vectors before it have 31"):
        read(tmp_path, hidden_size=31)


@pytest.mark.parametrize(
    ("modules", "says"),
    [
        ([module("CustomPooling")], "is a module that nimbed cannot honour"),
        ([module("Pooling", prefix="my_package.")], "never runs a folder's own code"),
        ([module("Pooling", "../1_Pooling")], "path: .*is no name inside the folder"),
        ([module("Pooling", 7)], "path: 7 is no name inside the folder"),
        ([module("Transformer", "0_Transformer")], "the transformer lies in '0_Transformer', not beside it"),
        ([module("Transformer"), module("Transformer")], "type .*Transformer' after Transformer"),
        (["Pooling"], "a module is described by 'Pooling', not by an object"),
    ],
)
def test_what_cannot_be_honoured_is_refused(modules, says, tmp_path):
    written(tmp_path, modules=modules)
    with pytest.raises(SpecError, match=rf"modules\.json: .*{says}"):
        read(tmp_path)


def test_a_link_out_of_the_folder_is_refused(tmp_path):
    (outside := tmp_path / "outside").mkdir()
    (folder := tmp_path / "model").mkdir()
    (folder / "1_Pooling").symlink_to(outside)
    written(folder, modules=[module("Pooling", "1_Pooling")])
    with pytest.raises(SpecError, match="path: '1_Pooling' leads out of the model folder"):
        read(folder)


@pytest.mark.parametrize("name", ["bert", "xlm-roberta"])
def test_settings_have_the_names_that_sentence_transformers_looks_for(name, tmp_path):
    path = tmp_path / f"sentence_{name}_config.json"
    path.write_text('{"max_seq_length": 7}')
    assert transformer_settings(tmp_path) == (path, {"max_seq_length": 7})


def test_without_settings_there_are_none(tmp_path):
    assert transformer_settings(tmp_path) == (tmp_path / "sentence_bert_config.json", {})


@pytest.mark.parametrize("value", [None, {}, {"torch_dtype": "float16"}, {"text": {"use_fast": True}}])
def test_words_that_change_no_vector_are_passed_over(value, tmp_path):
    written(tmp_path, sentence_bert_config={"model_kwargs": value})
    transformer_settings(tmp_path)


def test_words_that_would_change_vectors_are_refused(tmp_path):
    written(tmp_path, sentence_bert_config={"model_kwargs": {"torch_dtype": "float16", "rope_theta": 7}})
    with pytest.raises(SpecError, match=r"model_kwargs: .*rope_theta.* is not applied by nimbed"):
        transformer_settings(tmp_path)


def test_activations_are_classes_of_torch(tmp_path):
    assert torch_activation(tmp_path, "key", "torch.nn.modules.activation.ReLU") == "relu"
    for name in ("ReLU", "my.torch.nn.ReLU", "torch.nn.SiLU"):
        with pytest.raises(SpecError, match=f"key: '{name}' is not one of"):
            torch_activation(tmp_path, "key", name)
