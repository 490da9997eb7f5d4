"""The facts about models agree with what the package has of them elsewhere, and repeat nothing of it."""

from __future__ import annotations

import pytest
from tests.support.rotary_families import FAMILIES as SEEDED

from nimbed._model_folder.known_models import MODELS, NETWORKS
from nimbed._model_folder.networks import table

MODEL_TYPES = {name: family.types for name, family in ((one.name, one) for one in table.FAMILIES)}


def test_every_network_of_the_table_has_its_facts():
    assert NETWORKS.keys() == MODEL_TYPES.keys()


def test_cross_encoders_are_tested_where_they_are_said_to_run():
    seeded = {family.config["model_type"] for family in SEEDED.values() if family.scores} | {"qwen3"}  # Qwen3-Reranker
    others = {"jina_bert_v2", "jina_v3"}  # whose model_type is BERT's or XLM-RoBERTa's
    tested = {name for name, kinds in MODEL_TYPES.items() if seeded & set(kinds)} - others
    said = {name for name, facts in NETWORKS.items() if facts.scores}
    assert tested <= said
    assert {name for name in said - tested if "not compared" not in NETWORKS[name].such_as} == set()
    assert not others & said


def test_there_are_those_that_people_use_most():
    assert len({model.name.lower() for model in MODELS}) == len(MODELS) >= 25
    assert {model.network for model in MODELS} <= NETWORKS.keys()


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name.partition("/")[2])
def test_a_model_has_each_fact_once(model):
    family = model.family
    if model.width is None:
        assert (family, model.pooling) == (None, None)
        assert model.head
        assert NETWORKS[model.network].scores
        return
    known = None if family is None else family.pooling
    assert (model.pooling is None) == (known is not None)
    assert family is None or not family.dims or family.dims[0] == model.width
    assert model.longest >= 128


def test_licences_that_restrict_are_said():
    restricted = {model.name for model in MODELS if model.licence not in {"Apache-2.0", "MIT"}}
    assert {name.partition("/")[0] for name in restricted} == {"jinaai", "google"}
    assert [model.name for model in MODELS if model.gated] == ["google/embeddinggemma-300m"]
