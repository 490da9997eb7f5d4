from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace

import pytest
from tests.support.described import change, config_of, described, families, fields_of, spec_of, written

from nimbed._files.json import Fields
from nimbed._model_folder.networks import table
from nimbed._model_folder.networks.description import AttentionKind, NormStep
from nimbed._types import DenseSpec
from nimbed.errors import SpecError


@pytest.mark.parametrize("family", families())
def test_every_family_is_known_by_its_config(family, tmp_path):
    folder = written(family, tmp_path)
    assert table.knows(fields_of(folder))
    network, config = described(folder), json.loads((folder / "config.json").read_text())
    assert (network.hidden, network.layers, network.heads) == (96, 3, 6)
    assert (network.head_dim, network.key_value_heads) == (
        config.get("head_dim", 16),
        config.get("num_key_value_heads", 6),
    )
    assert (network.intermediate, network.vocabulary) == (160, 1200)
    assert config["model_type"] in next(one for one in table.FAMILIES if one.name == network.family).types
    assert len(network.attention_of) == len(network.attention_norms) == len(network.output_norms) == 3
    assert hash(network) == hash(described(folder))


def test_a_family_is_in_the_table_once():
    names = [family.name for family in table.FAMILIES]
    assert len(set(names)) == len(names)


def test_post_norm(tmp_path):
    network = described(written("bert", tmp_path))
    step = NormStep(epsilon=1e-12, keeps=False)
    assert (network.embedding_norm, network.attention_norms, network.output_norms) == (step, (step,) * 3, (step,) * 3)
    assert (network.attention, network.attention_of) == ((AttentionKind(),), (0, 0, 0))


@pytest.mark.parametrize("kind", ["xlnet", None, 3, ["bert"]])
def test_other_networks_are_not_known(kind, tmp_path):
    folder = change(written("bert", tmp_path), model_type=kind)
    assert not table.knows(fields_of(folder))
    with pytest.raises(SpecError, match=r"config\.json: the native engine runs bert, .*xlm-roberta, not"):
        described(folder)


@pytest.mark.parametrize(
    "places",
    [
        {"AutoModel": "someone/else--modeling.StrangeModel"},
        {"AutoModel": "modeling.JinaBertModel", "AutoTokenizer": ["tokenization.Strange", None]},
        "modeling.Strange",
        {"AutoModel": 3},
    ],
)
@pytest.mark.parametrize("family", ["bert", "jina-bert-v2", "gte-new", "modernbert"])
def test_code_that_is_no_known_networks_is_not_known(places, family, tmp_path):
    folder = change(written(family, tmp_path), auto_map=places)
    assert not table.knows(fields_of(folder))
    with pytest.raises(SpecError, match=r"with code of its own \(auto_map\)"):
        described(folder)


def test_an_empty_config_is_not_known():
    assert not table.knows(Fields({}, "config.json"))


def test_what_stands_behind_the_network(tmp_path):
    folder = written("nomic-bert", tmp_path)
    assert described(folder, pooling="cls").pooling == "cls"
    with pytest.raises(SpecError, match="no weightedmean pooling"):
        described(folder, pooling="weightedmean")
    with pytest.raises(SpecError, match="architectures: the native engine has no classifier of nomic_bert"):
        described(folder, task="scoring")


def test_heads_of_odd_width_have_no_halves_to_turn(tmp_path):
    folder = change(written("nomic-bert", tmp_path), num_attention_heads=32)
    with pytest.raises(SpecError, match="3 is odd"):
        described(folder)


DENSE = DenseSpec(weights="2_Dense/model.safetensors", in_features=96, out_features=96, bias=False, activation="tanh")


@pytest.mark.parametrize(
    ("dense", "says"),
    [
        ((replace(DENSE, out_features=8193),), r"2_Dense.config\.json: out_features: 8193 is more than the 8192"),
        ((DENSE,) * 17, r"modules\.json: type: the native engine runs 16 dense layers, not 17"),
    ],
)
def test_dense_layers_that_the_engine_has_no_room_for(dense, says, tmp_path):
    folder = written("bert", tmp_path)
    assert len(described(folder, dense=(replace(DENSE, out_features=8192),)).head) == 1
    with pytest.raises(SpecError, match=says):
        described(folder, dense=dense)


ODD = (None, 0, -1, 3, 1e308, 5e-324, 2**70, True, "", [], [None], {}, {"type": "ntk", "factor": {}}, {"a": [1]})


@pytest.mark.parametrize(
    "family",
    ["bert", "distilbert", "mpnet", "modernbert-cross", "nomic-bert-remote", "gte-new", "jina-bert-v2", "jina-v3"],
)
def test_whatever_a_key_holds_is_honoured_or_refused(family, tmp_path):
    folder = written(family, tmp_path)
    config, spec = config_of(folder), spec_of(folder)
    for key in (*config, "rope_scaling", "rope_parameters", "layer_types", "num_labels", "auto_map"):
        for value in ODD:
            (folder / "config.json").write_text(json.dumps({**config, key: value}))
            with suppress(SpecError):
                table.read_description(folder, spec)
