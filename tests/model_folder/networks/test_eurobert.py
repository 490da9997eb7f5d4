from __future__ import annotations

import pytest
from tests.support.described import change, described, written

from nimbed._model_folder.networks.description import AttentionKind
from nimbed._model_folder.networks.rotary import frequencies
from nimbed.errors import SpecError


@pytest.fixture
def folder(tmp_path):
    return written("eurobert", tmp_path)


def test_tokens_read_in_both_directions(folder):
    network = described(folder)
    assert network.attention == (AttentionKind(rotary=frequencies(250_000.0, 16)),)
    assert (network.activation, network.gated, network.head_norm) == ("silu", True, None)


@pytest.mark.parametrize("key", ["attention_bias", "mlp_bias"])
def test_biases_are_refused(key, folder):
    with pytest.raises(SpecError, match=rf"config\.json: {key}: true is not honoured"):
        described(change(folder, **{key: True}))


PLACES = {"AutoConfig": "configuration_eurobert.EuroBertConfig", "AutoModel": "modeling_eurobert.EuroBertModel"}


def test_a_folder_with_the_authors_code_is_the_same_network(folder):
    assert described(folder) == described(change(folder, auto_map=PLACES))


@pytest.mark.parametrize(("more", "base"), [({}, 10_000.0), ({"auto_map": PLACES}, 250_000.0)])
def test_where_no_base_is_said_it_is_that_of_the_code(more, base, folder):
    (kind,) = described(change(folder, "rope_theta", "rope_parameters", **more)).attention
    assert kind.rotary == frequencies(base, 16)
