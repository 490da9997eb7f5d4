from __future__ import annotations

from dataclasses import replace

from tests.support.described import described, fields_of, spec_of, written

from nimbed._model_folder.networks.description import Head
from nimbed._model_folder.networks.heads import classifier, two_layers


def test_an_embedder_has_no_classifier(tmp_path):
    folder = written("bert", tmp_path)
    assert classifier(fields_of(folder), spec_of(folder), 96, "tanh") == ()
    assert two_layers(described(folder), "first", "second") == {}


def test_two_layers(tmp_path):
    head = (Head(outputs=8, activation="tanh"), Head(outputs=1, activation="identity"))
    found = two_layers(replace(described(written("bert", tmp_path)), head=head), "first", "second")
    shapes = {name: shape for source in found.values() for name, shape in source.tensors.items()}
    assert shapes == {"first.weight": (8, 96), "first.bias": (8,), "second.weight": (1, 8), "second.bias": (1,)}
    assert set(found) == {"head.0.weight", "head.0.bias", "head.1.weight", "head.1.bias"}


def test_what_makes_a_score_of_the_logit_is_the_last_layers_activation(tmp_path):
    folder = written("bert-cross", tmp_path)
    assert [head.activation for head in described(folder).head] == ["tanh", "identity"]
    assert [head.activation for head in described(folder, activation="sigmoid").head] == ["tanh", "sigmoid"]
