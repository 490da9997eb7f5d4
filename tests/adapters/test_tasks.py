"""A task, said flat: in each framework and command what SpecOverrides(task=...) is."""

from __future__ import annotations

import asyncio
import json

import numpy as np
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
WEB_SEARCH = "Given a web search query, retrieve relevant passages that answer the query"
MINE = "Find the law"
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
    assert "nimbed: --task 'search': there is no adapter for this task" in capsys.readouterr().err


@pytest.fixture
def instructed(tmp_path):
    """As Qwen3-Embedding, with a tokenizer that the fake engine reads."""
    prompts = {"query": f"Instruct: {WEB_SEARCH}\nQuery:", "document": ""}
    files = {"config_sentence_transformers.json": {"prompts": prompts}}
    files |= {"tokenizer.json": fake.tokenizer().to_str(), "openvino_model.xml": "<net/>"}
    return str(write(tmp_path / "instructed", ("Transformer", "Pooling", "Normalize"), files))


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_words_for_a_task_are_an_option(adapter, instructed):
    made = {task: adapter(model=instructed, backend="fake", task=task) for task in (None, WEB_SEARCH, MINE)}
    found = {task: one.fingerprint for task, one in made.items()}
    assert found == {task: fingerprint(instructed, task) for task in found}
    assert found[None] == found[WEB_SEARCH] != found[MINE]
    assert made[MINE].encoder.info.task == MINE
    assert made[MINE].encoder.info.prompts["query"] == f"Instruct: {MINE}\nQuery:"


def test_a_prompt_name_and_a_task(instructed):
    """The name is that of the model's prompt, which has the task's words."""
    made = NimbedEmbeddings(model=instructed, backend="fake", task=MINE, query_encode_kwargs={"prompt_name": "query"})
    assert made.fingerprint == fingerprint(instructed, MINE)


def test_the_commands_take_words_for_a_task(instructed, tmp_path, capsys):
    texts, vectors = tmp_path / "texts.txt", tmp_path / "vectors.npy"
    texts.write_text("who pays?\n")
    command = ["embed", str(texts), "-o", str(vectors), "-m", instructed, "--backend", "fake", "--role", "query"]
    assert main([*command, "--task", MINE]) == 0
    with Encoder(instructed, backend="fake", spec=SpecOverrides(task=MINE)) as encoder:
        assert (np.load(vectors) == encoder.encode(["who pays?"], role="query")).all()
    assert main([*command, "--task", "clustering"]) == 1
    assert "nimbed: --task 'clustering': the model knows no tasks by name" in capsys.readouterr().err


@pytest.mark.parametrize(("task", "origin"), [(None, "config_sentence_transformers.json"), (MINE, "set by the user")])
def test_the_doctor_says_a_models_task_and_prompts(instructed, capsys, task, origin):
    assert main(["doctor", instructed, *([] if task is None else ["--task", task])]) == 0
    words = task or WEB_SEARCH
    out = " ".join(capsys.readouterr().out.split())
    assert f"task {words} ({origin})" in out
    assert f"prompt query 'Instruct: {words}\\nQuery:'" in out
    assert "pooling mean (modules.json)" in out


@pytest.fixture
def titled(tmp_path):
    """As EmbeddingGemma, with a tokenizer that the fake engine reads."""
    files = {"tokenizer.json": fake.tokenizer().to_str(), "openvino_model.xml": "<net/>"}
    return str(write(tmp_path / "embeddinggemma-300m", ("Transformer", "Pooling", "Normalize"), files))


CATS = [Document(content="a cat", meta={"title": "Cats", "page": 3}), Document(content="no title", meta={"page": 4})]


@pytest.mark.parametrize(
    ("options", "first", "second"),
    [
        ({}, "title: none | text: a cat", "title: none | text: no title"),
        ({"meta_fields_to_embed": ["title"]}, "title: Cats | text: a cat", "title: none | text: no title"),
        (
            {"meta_fields_to_embed": ["title", "page"], "embedding_separator": " / "},
            "title: Cats | text: 3 / a cat",
            "title: none | text: 4 / no title",
        ),
        (
            {"meta_fields_to_embed": ["title"], "task": "Clustering"},
            "task: clustering | query: Cats\na cat",
            "task: clustering | query: no title",
        ),
    ],
)
def test_a_title_that_haystack_embeds_goes_into_its_place(titled, options, first, second):
    with Encoder(titled, backend="fake", spec=SpecOverrides(prompts={"document": ""})) as plain:
        expected = plain.encode([first, second])
    embedder = NimbedDocumentEmbedder(titled, backend="fake", **options)
    found = embedder.run(CATS)["documents"]
    assert (np.array([one.embedding for one in found], np.float32) == expected).all()
    found = asyncio.run(embedder.run_async(CATS))["documents"]
    assert (np.array([one.embedding for one in found], np.float32) == expected).all()


def test_a_ranker_puts_titles_before_the_content(titled):
    ranker = NimbedRanker(titled, backend="fake", meta_fields_to_embed=["title"])
    assert len(ranker.run("a cat", CATS)["documents"]) == 2
