"""What users hand in: accepted as it is, or refused by a message that names the item."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nimbed import _inputs
from nimbed._inputs import check_model, check_text, check_texts, read_lines, text_blocks
from nimbed.errors import InputError, InputTypeError

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


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_jsonl(tmp_path, suffix):
    texts = ["plain", "naïve\u2028línea", "", "日本"]
    lines = [json.dumps({"id": n, "text": text}, ensure_ascii=n % 2 == 0) for n, text in enumerate(texts)]
    path = written(tmp_path / f"texts.jsonl{suffix}", "\n".join([lines[0], "", "   ", *lines[1:]]))
    assert list(read_lines(path)) == texts
    assert list(read_lines(written(path, '{"body": "other"}\n'), "body")) == ["other"]


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_plain_lines(tmp_path, suffix, end):
    path = written(tmp_path / f"texts.txt{suffix}", end.join(["first", "", " second ", '{"text": 3}']))
    assert list(read_lines(path)) == ["first", " second ", '{"text": 3}']


@pytest.mark.parametrize("name", ["texts.jsonl", "texts.txt", "texts.txt.gz"])
def test_a_byte_order_mark_is_no_text(tmp_path, name):
    path = written(tmp_path / name, '\ufeff{"text": "a"}\n')
    assert list(read_lines(path)) == (["a"] if ".jsonl" in name else ['{"text": "a"}'])


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ('{"text": "cut', "text"),
        ('{"body": "a"}', "text"),
        ('["a"]', "text"),
        ('"a"', "text"),
        ("3", "text"),
        ('{"text": null}', "NoneType"),
        ('{"text": ["a"]}', "list"),
    ],
)
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_line_that_holds_no_text_is_named(tmp_path, line, named, suffix):
    path = written(tmp_path / f"texts.jsonl{suffix}", '{"text": "fine"}\n\n' + line + "\n")
    texts = read_lines(path)
    assert next(texts) == "fine"
    with pytest.raises(InputError, match=named) as caught:
        next(texts)
    assert f"{path}, line 3" in str(caught.value)


@pytest.mark.parametrize("name", ["texts.jsonl", "texts.txt", "texts.txt.gz"])
def test_a_line_that_is_not_utf8_is_named(tmp_path, name):
    path = tmp_path / name
    content = b'{"text": "fine"}\n{"text": "caf\xe9"}\n'
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    with pytest.raises(InputError, match="UTF-8") as caught:
        list(read_lines(path))
    assert f"{path}, line 2" in str(caught.value)


def test_files_that_cannot_be_read_are_named(tmp_path):
    whole = gzip.compress(b"some text\n" * 5000)
    broken = {
        "missing.txt": None,
        "no-gzip.txt.gz": b"plain text",
        "cut.txt.gz": whole[: len(whole) // 2],
        "damaged.txt.gz": whole[:30] + b"\xff" * 12 + whole[42:],
    }
    for name, content in broken.items():
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(InputError) as caught:
            list(read_lines(path))
        assert str(path) in str(caught.value)


def written(path: Path, text: str) -> Path:
    content = text.encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path
