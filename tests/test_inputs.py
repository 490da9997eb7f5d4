"""What users hand in: accepted as it is, or refused by a message that names the item."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nimbed import _inputs
from nimbed._inputs import check_model, check_text, check_texts, text_blocks
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
        patch.setattr(_inputs, "_BLOCK_TEXTS", count)
        patch.setattr(_inputs, "_BLOCK_CHARACTERS", characters)
        blocks = list(text_blocks(iter(texts)))
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

    blocks = text_blocks(endless())
    next(blocks)
    first = read
    next(blocks)
    assert read == 2 * first


def test_blocks_name_an_item_by_its_place_in_the_whole():
    texts = ["fine"] * 1500 + [None]
    with pytest.raises(InputTypeError, match="item 1500 is NoneType"):
        list(text_blocks(texts))
