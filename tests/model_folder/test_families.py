"""Prompts: the user's word, then the folder's, then those that the models' authors publish."""

from __future__ import annotations

import pytest
import torch
from tests.support.model_folders import write

from nimbed._model_folder import families
from nimbed.spec import SpecOverrides, read_spec

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
    family = families.find("intfloat/multilingual-e5-large-instruct")
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
        ({"document": "", "passage": "P> "}, ""),
        ({"document": None, "passage": "P> "}, ""),
    ],
)
def test_a_documents_prompt_has_several_names(tmp_path, given, document):
    folder = write(tmp_path, files={FILE: {"prompts": given}})
    assert prompts_of(folder) == ("", document)


ROLES = [
    {"prompts": {"query": "Q: ", "document": ""}, "default_prompt_name": "query"},
    {"prompts": {"query": "Q: "}, "default_prompt_name": "query"},
    {"prompts": {"task": "T> ", "query": "Q> "}, "default_prompt_name": "task"},
    {"prompts": {"query": "", "document": ""}, "default_prompt_name": "query"},
    {"prompts": {"query": None, "document": "D> ", "passage": "P> "}, "default_prompt_name": "passage"},
    {"prompts": {}, "default_prompt_name": "document"},
]


@pytest.mark.parametrize("given", ROLES)
def test_roles_are_those_of_sentence_transformers(tmp_path, given):
    from sentence_transformers import SentenceTransformer

    reference = SentenceTransformer(modules=[torch.nn.Identity()], device="cpu")
    reference.prompts = dict(reference._default_prompts)
    reference._parse_model_config(given)
    reference._validate_prompts()
    seen: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference, "encode", lambda *_, prompt_name, **__: seen.append(prompt_name))
        reference.encode_query(["text"])
        reference.encode_document(["text"])
    expected = tuple(reference._resolve_prompt(None, name) for name in seen)
    assert prompts_of(write(tmp_path, files={FILE: given})) == expected


def test_an_empty_prompt_is_the_folders_word(tmp_path):
    folder = write(tmp_path / "e5-small", files={FILE: {"prompts": {"query": "Q> ", "document": ""}}})
    assert prompts_of(folder) == ("Q> ", "")
    assert read_spec(folder).origins["prompt document"] == FILE
