"""The task of a model with adapters for tasks, said flat: in each framework what SpecOverrides(task=...) is."""

from __future__ import annotations

import json

import pytest
from haystack import Document
from tests.support.model_folders import BERT, write

from nimbed import Encoder, SpecOverrides
from nimbed.backends import fake
from nimbed.cli import main
from nimbed.errors import InputError
from nimbed.haystack import NimbedDocumentEmbedder, NimbedRanker, NimbedTextEmbedder
from nimbed.langchain import NimbedEmbeddings
from nimbed.llama_index import NimbedEmbedding

ADAPTERS = [NimbedEmbeddings, NimbedEmbedding, NimbedTextEmbedder, NimbedDocumentEmbedder]
NAMES = ["retrieval.query", "retrieval.passage", "separation", "text-matching"]


@pytest.fixture
def folder(tmp_path):
    """As jina-embeddings-v3, with a tokenizer that the fake engine reads."""
    config = {**BERT, "lora_adaptations": NAMES}
    files = {"config.json": config, "tokenizer.json": fake.tokenizer().to_str(), "openvino_model.xml": "<net/>"}
    return str(write(tmp_path, ("Transformer", "Pooling", "Normalize"), files))


def fingerprint(folder, task):
    with Encoder(folder, backend="fake", spec=SpecOverrides(task=task)) as encoder:
        return encoder.fingerprint


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_a_task_is_an_option(adapter, folder):
    found = {task: adapter(model=folder, backend="fake", task=task).fingerprint for task in (None, "separation")}
    assert found == {task: fingerprint(folder, task) for task in found}
    assert len(set(found.values())) == 2


def test_a_copy_has_the_task(folder):
    made = NimbedEmbedding(folder, backend="fake", task="text-matching")
    assert NimbedEmbedding.from_dict(made.to_dict()).fingerprint == made.fingerprint
    component = NimbedDocumentEmbedder(folder, backend="fake", task="text-matching")
    dumped = json.loads(json.dumps(component.to_dict()))
    assert NimbedDocumentEmbedder.from_dict(dumped).fingerprint == made.fingerprint


def test_a_ranker_by_vectors_has_a_task(folder):
    ranker = NimbedRanker(folder, backend="fake", task="separation")
    assert ranker.run("a cat", [Document(content="the cat"), Document(content="prices")])["documents"]
    assert ranker.reranker.info.reasons["task"] == "set by the user"


@pytest.mark.parametrize("adapter", [*ADAPTERS, NimbedRanker])
def test_a_task_that_the_model_does_not_have(adapter, folder):
    with pytest.raises(InputError, match=r"^task='search': there is no adapter for this task; the model knows retr"):
        adapter(model=folder, backend="fake", task="search").warm_up()  # Haystack's alone come so far


def test_the_command_says_a_task(folder, tmp_path, capsys):
    assert main(["quantize", folder, "-o", str(tmp_path / "out"), "--task", "search"]) == 1
    assert "nimbed quantize MODEL --task 'search': there is no adapter for this task" in capsys.readouterr().err
