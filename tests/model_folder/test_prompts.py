"""Prompts: the user's word, then the folder's, then the family's."""

from __future__ import annotations

import pytest
import torch
from tests.support.model_folders import write

from nimbed.spec import SpecOverrides, read_spec

FILE = "config_sentence_transformers.json"


def prompts_of(folder, **options) -> tuple[str, str]:
    spec = read_spec(folder, **options)
    return spec.prompt("query"), spec.prompt("document")


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
