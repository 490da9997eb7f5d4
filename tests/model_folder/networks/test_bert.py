from __future__ import annotations

import pytest
from tests.support.described import change, described, tensors_of, weights_of, written

from nimbed._model_folder.networks.description import AttentionKind, Head
from nimbed.errors import SpecError


@pytest.mark.parametrize(
    ("family", "padding", "positions", "types", "longest"),
    [
        ("bert", -1, 64, 2, 64),
        ("xlm-roberta", 1, 66, 1, 64),
        ("mpnet", 1, 66, None, 64),
        ("distilbert", -1, 64, None, 64),
    ],
)
def test_tables_of_positions_and_segments(family, padding, positions, types, longest, tmp_path):
    network = described(written(family, tmp_path))
    assert (network.padding, network.positions, network.types) == (padding, positions, types)
    assert network.max_length == longest


def test_mpnet_adds_what_its_table_says_of_a_distance(tmp_path):
    folder = written("mpnet", tmp_path)
    assert described(folder).attention == (AttentionKind(distances="buckets"),)
    assert weights_of(folder)["distances"].shape == (32, 6)
    assert described(change(folder, "relative_attention_num_buckets")) == described(folder)


@pytest.mark.parametrize(
    ("gone", "field", "default"),
    [
        ("vocab_size", "vocabulary", 30522),
        ("max_position_embeddings", "positions", 512),
        ("type_vocab_size", "types", 2),
    ],
)
def test_what_a_config_leaves_out_is_transformers_own(gone, field, default, tmp_path):
    assert getattr(described(change(written("bert", tmp_path), gone)), field) == default


@pytest.mark.parametrize("gone", ["hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"])
def test_sizes_that_are_missing_are_named(gone, tmp_path):
    from tests.support.described import config_of, spec_of

    from nimbed._files.json import Fields
    from nimbed._model_folder.networks.table import family_of

    folder = written("bert", tmp_path)
    config = {key: value for key, value in config_of(folder).items() if key != gone}
    fields = Fields(config, "config.json")
    with pytest.raises(SpecError, match=rf"config\.json: {gone} is missing"):
        family_of(fields).describe(fields, spec_of(folder))


def test_distilbert_has_one_epsilon_whatever_the_config_says(tmp_path):
    folder = change(written("distilbert", tmp_path), layer_norm_eps=0.1)
    assert described(folder).embedding_norm.epsilon == 1e-12


@pytest.mark.parametrize("kind", ["camembert", "roberta", "xlm-roberta"])
def test_networks_of_one_kind(kind, tmp_path):
    assert described(change(written("xlm-roberta", tmp_path), model_type=kind)).family == "roberta"


@pytest.mark.parametrize(
    ("family", "activation"),
    [("bert", "tanh"), ("xlm-roberta", "tanh"), ("mpnet", "tanh"), ("distilbert", "relu"), ("electra", "gelu")],
)
def test_classifiers(family, activation, tmp_path):
    folder = written(f"{family}-cross", tmp_path)
    network = described(folder)
    assert network.head == (Head(outputs=96, activation=activation), Head(outputs=1, activation="identity"))
    assert network.pooling == "cls"
    assert weights_of(folder)["head.1.weight"].shape == (1, 96)
    assert any("classifier" in name for name in tensors_of(folder))


@pytest.mark.parametrize("family", ["xlm-roberta", "mpnet"])
def test_positions_behind_the_padding_have_to_be_there(family, tmp_path):
    folder = change(written(family, tmp_path), "max_position_embeddings", pad_token_id=600)
    if family == "mpnet":  # has its own
        assert described(folder).max_length == 510
        return
    with pytest.raises(SpecError, match=r"config\.json: pad_token_id: 600 is not below 511"):
        described(folder)
