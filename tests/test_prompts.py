"""Prompts: the user's word, then the folder's, then those that the models' authors publish."""

from __future__ import annotations

import pytest

from nimbed import _families
from nimbed.spec import SpecOverrides, read_spec
from tests.model_folders import write

BGE_EN = "Represent this sentence for searching relevant passages: "
BGE_ZH = "为这个句子生成表示以用于检索相关文章\uff1a"
FILE = "config_sentence_transformers.json"


def prompts_of(folder, **options) -> tuple[str, str]:
    spec = read_spec(folder, **options)
    return spec.prompt("query"), spec.prompt("document")


@pytest.mark.parametrize(
    ("name", "query", "document"),
    [
        ("BAAI/bge-small-en-v1.5", BGE_EN, ""),
        ("BAAI/bge-large-en", BGE_EN, ""),
        ("BAAI/bge-large-zh-v1.5", BGE_ZH, ""),
        ("BAAI/bge-small-zh", BGE_ZH, ""),
        ("BAAI/bge-m3", "", ""),
        ("intfloat/multilingual-e5-base", "query: ", "passage: "),
        ("intfloat/e5-small-v2", "query: ", "passage: "),
        ("intfloat/e5-large", "query: ", "passage: "),
        ("thenlper/gte-small", "", ""),
        ("sentence-transformers/all-MiniLM-L6-v2", "", ""),
        ("someone/bge-small-en-v1.5-finetuned", "", ""),
        ("someone/not-e5-small", "", ""),
    ],
)
def test_families(tmp_path, name, query, document):
    assert prompts_of(write(tmp_path), name=name) == (query, document)


def test_the_instruct_model_has_its_own():
    family = _families.find("intfloat/multilingual-e5-large-instruct")
    assert family.query.startswith("Instruct: ")
    assert family.query.endswith("\nQuery: ")
    assert family.document == ""


@pytest.mark.parametrize("name", ["bge-small-en-v1.5", "BGE-Small-EN-v1.5"])
def test_a_folder_is_known_by_its_own_name(tmp_path, name):
    spec = read_spec(write(tmp_path / name, []))
    assert (spec.pooling, spec.normalize, spec.prompt("query")) == ("cls", True, BGE_EN)
    assert spec.origins["prompt query"] == spec.origins["pooling"] == "family table: bge-en"


def test_the_folder_goes_before_the_family(tmp_path):
    folder = write(tmp_path / "e5-small", files={FILE: {"prompts": {"query": "Q> ", "other": "O> "}}})
    assert prompts_of(folder) == ("Q> ", "passage: ")
    assert read_spec(folder).prompts["other"] == "O> "


def test_prompts_that_a_folder_leaves_empty_fall_to_the_family(tmp_path):
    folder = write(tmp_path / "e5-small", files={FILE: {"prompts": {"query": "", "document": None}}})
    assert prompts_of(folder) == ("query: ", "passage: ")


def test_the_user_goes_before_both(tmp_path):
    folder = write(tmp_path / "e5-small", files={FILE: {"prompts": {"query": "Q> "}}})
    assert prompts_of(folder, overrides=SpecOverrides(prompts={"query": "mine: "})) == ("mine: ", "passage: ")
    assert prompts_of(folder, overrides=SpecOverrides(prompts={"query": "", "document": ""})) == ("", "")


@pytest.mark.parametrize("name", ["bge-large-zh-v1.5", "multilingual-e5-base"])
def test_an_empty_string_turns_a_familys_prompt_off(tmp_path, name):
    spec = read_spec(write(tmp_path / name), overrides=SpecOverrides(prompts={"query": ""}))
    assert spec.prompt("query") == ""
    assert spec.origins["prompt query"] == "set by the user"


@pytest.mark.parametrize(
    ("given", "document"),
    [
        ({"document": "D> ", "passage": "P> "}, "D> "),
        ({"corpus": "C> ", "passage": "P> "}, "P> "),
        ({"corpus": "C> ", "text": "T> "}, "C> "),
        ({"text": "T> "}, "T> "),
        ({"document": "", "passage": "P> "}, "P> "),
    ],
)
def test_a_documents_prompt_has_several_names(tmp_path, given, document):
    folder = write(tmp_path, files={FILE: {"prompts": given}})
    assert prompts_of(folder) == ("", document)


def test_the_default_prompt_serves_roles_without_their_own(tmp_path):
    given = {"prompts": {"task": "T> ", "query": "Q> "}, "default_prompt_name": "task"}
    assert prompts_of(write(tmp_path, files={FILE: given})) == ("Q> ", "T> ")


def test_a_default_prompt_that_is_empty_is_none(tmp_path):
    given = {"prompts": {"query": "", "document": ""}, "default_prompt_name": "query"}
    assert prompts_of(write(tmp_path, files={FILE: given})) == ("", "")
