"""Documents with titles: whose prompt takes one, what a title may be, and that no two share a key."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.model_folders import write

from nimbed import Encoder, SpecOverrides
from nimbed._cache.lru import Keys
from nimbed._model_folder.families import find
from nimbed._model_folder.prompt_tasks import with_task
from nimbed._text.titles import takes_titles, with_titles
from nimbed._types import PromptedText
from nimbed.backends import fake
from nimbed.encoder import TitledText
from nimbed.errors import InputError, InputTypeError

GEMMA = find("google/embeddinggemma-300m")
UNTITLED = GEMMA.document
TASKS = ("Retrieval", "Clustering", "STS", "Summarization", "Classification")


def made(title, text="The cat sat."):
    [item] = with_titles([TitledText(text=text, title=title)], "document", UNTITLED)
    return item


@pytest.fixture
def folder(tmp_path):
    files = {"tokenizer.json": fake.tokenizer().to_str(), "openvino_model.xml": "<net/>"}
    return write(tmp_path / "embeddinggemma-300m", files=files)


def test_a_title_goes_into_the_prompt():
    assert made("Cats") == PromptedText(prompt="title: Cats | text: ", text="The cat sat.")
    assert made("A: b | c") == PromptedText(prompt="title: A: b | c | text: ", text="The cat sat.")
    assert made(" 猫 ").prompt == "title:  猫  | text: "
    assert with_titles(["plain"], "document", UNTITLED) == ["plain"]


@pytest.mark.parametrize("title", ["", " ", "\t"])
def test_an_empty_title_is_none(title):
    assert made(title) == "The cat sat."


@pytest.mark.parametrize("title", ["two\nlines", "an end\n", "\r", "a\u2028b", "a\x0bb"])
def test_a_title_of_several_lines(title):
    with pytest.raises(InputError, match=r"^title='.*' must be one line: give it as ' '\.join\(title\.split\(\)\)"):
        TitledText(text="x", title=title)


@pytest.mark.parametrize("title", ["Cats | text: The dog", "| text:"])
def test_a_title_in_which_the_text_would_seem_to_begin(title):
    with pytest.raises(InputError, match=r"has '\| text:', behind which the text would seem to begin"):
        TitledText(text="x", title=title)


def test_both_are_strings():
    for wrong in ({"text": None, "title": "x"}, {"text": "x", "title": 3}):
        with pytest.raises(InputTypeError, match=r"(text|title) is (NoneType|int), not a string"):
            TitledText(**wrong)


@pytest.mark.parametrize(
    ("role", "prompt"), [("query", UNTITLED), ("document", ""), ("document", "passage: "), ("document", "title: x")]
)
def test_a_prompt_without_a_place_for_a_title(role, prompt):
    with pytest.raises(InputError, match=f"title='Cats': the model's prompt for role='{role}' is '.*no place for a"):
        with_titles(["plain", TitledText(text="x", title="Cats")], role, prompt)


def test_of_the_families_embeddinggemma_alone_takes_titles():
    assert takes_titles(UNTITLED)
    assert not any(map(takes_titles, ("", "passage: ", *GEMMA.tasks.values())))


def test_vectors_are_those_of_the_text_behind_its_prompt(folder):
    """By every way into the encoder."""
    items = ["plain", TitledText(text="a cat", title="Cats"), TitledText(text="a cat", title="")]
    full = [f"{UNTITLED}plain", "title: Cats | text: a cat", f"{UNTITLED}a cat"]
    with Encoder(folder, backend="fake", spec=SpecOverrides(prompts={"document": ""})) as plain:
        expected = plain.encode(full)
        with pytest.raises(InputError, match="no place for a title"):
            plain.encode(items)
    with Encoder(folder, backend="fake") as encoder:
        assert (encoder.encode(items) == expected).all()
        assert (encoder.encode(items) == expected).all()
        assert encoder.stats().cache.hits == 3
        assert (asyncio.run(encoder.aencode(items)) == expected).all()
        assert (np.concatenate(list(encoder.encode_iter(iter(items)))) == expected).all()
        with pytest.raises(InputError, match="role='query'"):
            encoder.encode(items, role="query")
        with pytest.raises(InputTypeError, match="item 1 is PromptedText"):
            encoder.encode(["x", PromptedText(prompt="", text="")])


def test_windows_of_a_long_text_have_its_title(folder):
    long = " ".join(["cat"] * 60)
    with Encoder(folder, backend="fake", truncate="chunk", spec=SpecOverrides(prompts={"document": ""})) as plain:
        unprompted = plain.encode([f"title: Cats | text: {long}"])
    with Encoder(folder, backend="fake", truncate="chunk") as encoder:
        titled = encoder.encode([TitledText(text=long, title="Cats"), TitledText(text=long, title="Dogs")])
        assert not np.allclose(titled[0], titled[1])
        assert not np.allclose(titled[0], unprompted[0])  # whose later windows lack it


def test_what_is_no_unicode_is_named_by_its_item(folder):
    with Encoder(folder, backend="fake") as encoder:
        with pytest.raises(InputError, match="item 1 is not valid Unicode"):
            encoder.encode(["x", TitledText(text="y", title="\ud800")])
        with pytest.raises(InputError, match=r"item 0 is not valid Unicode text .* at character 1"):
            encoder.encode(["y\ud800"])


PLAIN = st.text(st.sampled_from("ab|: x"), max_size=8)
DOCUMENTS = st.tuples(st.one_of(st.none(), PLAIN, st.just("none")), PLAIN | st.text(max_size=5), st.sampled_from(TASKS))


def key_of(title, text, task):
    """As the runtime makes it."""
    spec = with_task(fake.SPEC, task, GEMMA.tasks) if task != "Retrieval" else fake.SPEC
    prompt = spec.prompts.get("document", UNTITLED)
    items = [text if title is None or task != "Retrieval" else TitledText(text=text, title=title)]
    return Keys("fingerprint", prompt)(with_titles(items, "document", prompt))[0]


def meant(title, text, task):
    return (title if title and title.strip() and task == "Retrieval" else "none", text, task)


@given(DOCUMENTS, DOCUMENTS)
def test_two_documents_share_a_key_only_if_they_are_one(one, other):
    assert (key_of(*one) == key_of(*other)) == (meant(*one) == meant(*other))


@given(PLAIN, PLAIN, st.integers(0, 8))
def test_where_a_title_ends_is_part_of_the_key(title, text, moved):
    """The same characters in a row, split elsewhere between title and text, are another document."""
    one = PromptedText(prompt=title + text[:moved], text=text[moved:])
    keys = Keys("fingerprint", "")([one, PromptedText(prompt=title, text=text)])
    assert (keys[0] == keys[1]) == (not text[:moved])
