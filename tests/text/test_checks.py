"""What users hand in: accepted as it is, or refused by a message that names the item."""

from __future__ import annotations

import asyncio
import email
from collections import ChainMap, UserDict
from pathlib import Path
from types import MappingProxyType
from unittest import mock

import datasets
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nimbed import Encoder, Reranker, SpecOverrides
from nimbed._text import checks
from nimbed._text.checks import check_model, check_text, check_texts
from nimbed._text.titles import item_blocks
from nimbed.errors import InputTypeError

NOT_TEXTS = [None, b"bytes", 3, 2.5, True, ["nested"], ("nested",), {"a": 1}, float("nan"), Path("a"), np.array(["a"])]


class Column:
    """A list-like of a data frame's kind: it has a length and can be iterated, and that is all."""

    def __len__(self):
        return 2

    def __iter__(self):
        return iter(["a", "b"])


@pytest.mark.parametrize(
    "texts",
    [["a", "b"], ("a", "b"), np.array(["a", "b"]), np.array(["a", "b"], object), Column(), {"a": 1, "b": 2}.keys()],
    ids=lambda texts: type(texts).__name__,
)
def test_list_likes_are_taken(texts):
    taken = check_texts(texts)
    assert list(taken) == ["a", "b"]
    assert all(isinstance(text, str) for text in taken)


@pytest.mark.parametrize("texts", [[], (), np.array([], str)])
def test_nothing_is_fine(texts):
    assert list(check_texts(texts)) == []


def test_texts_are_not_touched():
    texts = ["  padded\n", "", "\0", "e\u0301"]
    assert list(check_texts(texts)) == texts


@pytest.mark.parametrize("item", NOT_TEXTS, ids=lambda item: type(item).__name__)
@pytest.mark.parametrize("index", [0, 7])
def test_an_item_that_is_no_string_is_named(item, index):
    texts = ["fine"] * 9
    texts[index] = item
    with pytest.raises(InputTypeError, match=rf"item {index} is {type(item).__name__}, not a string") as caught:
        check_texts(texts)
    assert isinstance(caught.value, TypeError)


@pytest.mark.parametrize(
    ("texts", "kind"),
    [
        ("one text", "str"),
        (b"one text", "bytes"),
        (None, "NoneType"),
        (3, "int"),
        ({"a": "b"}, "dict"),
        ({"a"}, "set"),
        (frozenset("a"), "frozenset"),
        ((t for t in "ab"), "generator"),
        (np.array("a"), "ndarray"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_list_is_named(texts, kind):
    with pytest.raises(InputTypeError, match=rf"a list of strings is wanted.*{kind}"):
        check_texts(texts)


TABLES = {
    "pandas": (lambda: pd.DataFrame({"text": ["a"]}), "one column"),
    "polars": (lambda: pl.DataFrame({"text": ["a"]}), "one column"),
    "pyarrow": (lambda: pa.table({"text": ["a"]}), "one column"),
    "datasets": (lambda: datasets.Dataset.from_dict({"text": ["a"]}), "one column"),
    "numpy, two axes": (lambda: np.array([["a", "b"]]), "one column"),
    "numpy, structured": (lambda: np.array([("a",)], [("text", "U1")]), "one column"),
    "torch": (lambda: torch.zeros(2, 3), "one column"),
    "UserDict": (lambda: UserDict({"a": "b"}), "list.texts.values"),
    "MappingProxyType": (lambda: MappingProxyType({"a": "b"}), "list.texts.values"),
    "ChainMap": (lambda: ChainMap({"a": "b"}), "list.texts.values"),
    "email": (lambda: email.message_from_string("a: b"), "list.texts.values"),
    "a set": (lambda: {"a"}, "make a list"),
}


@pytest.mark.parametrize(("make", "remedy"), TABLES.values(), ids=TABLES)
def test_what_does_not_give_its_texts_one_by_one_is_refused(make, remedy):
    with Encoder("m", backend="fake") as encoder:
        for embed in (encoder.encode, encoder.encode_iter):
            with pytest.raises(InputTypeError, match=remedy):
                embed(make())


@pytest.mark.parametrize(
    "texts",
    [pd.Series(["a", "b"]), pd.Series(["a", "b"], index=[7, 9]), pd.Index(["a", "b"]), pl.Series(["a", "b"])],
    ids=lambda texts: type(texts).__name__,
)
def test_columns_are_taken(texts):
    assert check_texts(texts) == ["a", "b"]


class Sly(str):
    """Says of itself what is not so, wherever it may."""

    def encode(self, *_):
        return b"the other text"

    def __len__(self):
        return 3

    def __str__(self):
        return "the other text"

    def __eq__(self, _):
        return True

    def __hash__(self):
        return hash("the other text")

    def __add__(self, _):
        return "the other text"

    __radd__ = __format__ = __add__

    def lower(self):
        return "the other text"

    def __iter__(self):
        return iter("the other text")


def test_a_string_of_a_kind_of_its_own_is_its_characters():
    sly, prompts = Sly("the one text"), SpecOverrides(prompts={"query": Sly("query: ")})
    with Encoder("m", backend="fake", spec=prompts) as encoder, Reranker("m", backend="fake") as reranker:
        one, other = encoder.encode(["the one text"])[0], encoder.encode(["the other text"])[0]
        asked = encoder.encode_query("the one text")
        scores = reranker.score_pairs([("the one text", "the other text")])
    with Encoder("m", backend="fake", spec=prompts) as encoder:
        rows = [
            encoder.encode([sly])[0], encoder.encode((sly,))[0], next(encoder.encode_iter([sly]))[0],
            asyncio.run(encoder.aencode([sly]))[0], encoder.encode(np.array([sly], object))[0],
        ]  # fmt: skip
        np.testing.assert_array_equal(rows, [one] * len(rows))
        np.testing.assert_array_equal(encoder.encode_query(sly), asked)
        np.testing.assert_array_equal(encoder.encode(["the other text"])[0], other)
    with Reranker("m", backend="fake") as reranker:
        assert reranker.score_pairs([(sly, Sly("the other text"))]) == scores
        assert reranker.scores(sly, [Sly("the other text")]) == scores
    assert type(check_text(sly)) is type(check_texts([np.str_("a")])[0]) is str


def test_what_only_says_that_it_is_a_string_is_none():
    liar = mock.Mock(spec=str)
    assert isinstance(liar, str)
    for refused in (lambda: check_texts([liar]), lambda: check_text(liar), lambda: list(item_blocks([liar]))):
        with pytest.raises(InputTypeError, match="Mock"):
            refused()


def test_an_item_that_cannot_be_shown_is_named_by_its_type():
    class Shy:
        def __repr__(self):
            raise OSError

    with pytest.raises(InputTypeError, match="item 0 is Shy, not a string: <Shy>"):
        check_texts([Shy()])


@pytest.mark.parametrize(
    "pairs",
    [{("a", "b"): 1}, {("a", "b")}, [{"a": 1, "b": 2}], pytest.param([{"a", "b"}], id="sets"), ["ab"], None, 3],
    ids=str,
)
def test_what_is_no_list_of_pairs(pairs):
    with Reranker("m", backend="fake") as reranker, pytest.raises(InputTypeError, match="pair"):
        reranker.score_pairs(pairs)


def test_the_way_out_is_named():
    with pytest.raises(InputTypeError, match="put it in a list"):
        check_texts("one text")
    with pytest.raises(InputTypeError, match="encode_iter"):
        check_texts(iter(["a"]))


@pytest.mark.parametrize("text", [None, b"a", 1, ["a"], ("a",)])
def test_one_text(text):
    assert check_text("a") == "a"
    with pytest.raises(InputTypeError, match=f"not {type(text).__name__}"):
        check_text(text)


def test_model_names():
    assert check_model("owner/name") == "owner/name"
    assert check_model(Path("some") / "folder") == str(Path("some") / "folder")
    with pytest.raises(InputTypeError, match="not NoneType"):
        check_model(None)


@given(texts=st.lists(st.text(max_size=40), max_size=60), count=st.integers(1, 9), characters=st.integers(1, 60))
@settings(deadline=None)
def test_blocks_hold_all_texts_in_bounded_lists(texts, count, characters):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checks, "_BLOCK_TEXTS", count)
        patch.setattr(checks, "_BLOCK_CHARACTERS", characters)
        blocks = list(item_blocks(iter(texts)))
    assert [text for _, block in blocks for text in block] == texts
    for first, block in blocks:
        assert block[0] is texts[first]
        assert 1 <= len(block) <= count
        assert sum(map(len, block[:-1])) < characters


def test_blocks_are_read_as_they_are_needed():
    read = 0

    def endless():
        nonlocal read
        while True:
            read += 1
            yield "text"

    blocks = item_blocks(endless())
    next(blocks)
    first = read
    next(blocks)
    assert read == 2 * first


def test_blocks_name_an_item_by_its_place_in_the_whole():
    texts = ["fine"] * 1500 + [None]
    with pytest.raises(InputTypeError, match="item 1500 is NoneType"):
        list(item_blocks(texts))


def test_a_call_is_cut_into_the_blocks_of_encode_iter(monkeypatch):
    from nimbed import Encoder

    monkeypatch.setattr(checks, "_BLOCK_CHARACTERS", 1000)
    with Encoder("m", backend="fake", cache=None, truncate="silent") as encoder:
        runtime, tokenized = encoder._opened(), []
        tokenize = runtime.tokenize

        def noted(texts, role, items):
            tokenized.append([len(text) for text in texts])
            return tokenize(texts, role, items)

        runtime.tokenize = noted
        texts = ["x" * 400] * 7 + ["y" * 2500] * 2
        expected = encoder.encode(texts)
        assert tokenized == [[400] * 3, [400] * 3, [400, 2500], [2500]]
        blocks = list(encoder.encode_iter(texts))
        assert [len(block) for block in blocks] == [3, 3, 2, 1]
        assert (np.concatenate(blocks) == expected).all()
