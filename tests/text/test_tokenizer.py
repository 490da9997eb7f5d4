"""Text to ids, as the model's own tokenizer gives them, and what happens to texts that are too long."""

from __future__ import annotations

import json
import shutil
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from nimbed._text.tokenizer import TextTokenizer, load_tokenizer
from nimbed.backends import fake
from nimbed.errors import InputError, SpecError, TruncationError
from nimbed.spec import read_spec

relaxed = settings(deadline=None, max_examples=150)
START, END = 0, 1
PROMPT_ZH = "为这个句子生成表示以用于检索相关文章\uff1a"
TEXTS = [
    "The cat sat on the mat.",
    "Naïve café, ZÜRICH — it's 3.14 €!",
    "今天天气很好\uff0c我们去公园散步吧。",
    "emoji 🎉👩‍👩‍👧‍👦🇩🇪 and ünïcödé",
    "",
    " ",
    "\t\n  \r\n",
    "a" * 150,
    "def f(x):\n    return x ** 2  # [MASK] [SEP]",
    "\u0627\u0644\u0633\u0644\u0627\u0645 \u05e9\u05dc\u05d5\u05dd हिन्दी ไทย",
]


def bytewise(max_length: int, truncate: str = "chunk", **spec: object) -> TextTokenizer:
    return TextTokenizer(fake.tokenizer(), replace(fake.SPEC, **spec), max_length=max_length, truncate=truncate)


def unframed(padding: int | None) -> TextTokenizer:
    """One that adds no special tokens."""
    made = fake.tokenizer()
    made.post_processor = None
    if padding is not None:
        made.enable_padding(pad_id=padding)
    return TextTokenizer(made, fake.SPEC, max_length=16, truncate="silent")


def body_ids(text: str) -> list[int]:
    return [int(i) for i in bytewise(10_000_000)([text]).sequences[0][1:-1]]


@pytest.fixture(scope="module")
def minilm(minilm_folder):
    def make(truncate: str = "warn", max_length: int = 256, side: str = "right") -> TextTokenizer:
        spec = replace(read_spec(minilm_folder), truncation_side=side)
        return TextTokenizer(load_tokenizer(minilm_folder), spec, max_length=max_length, truncate=truncate)

    return make


@pytest.fixture(scope="module")
def reference(minilm_folder):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(minilm_folder)  # its padding and truncation are set by each call


@pytest.mark.parametrize("prompt", ["", "query: ", PROMPT_ZH])
def test_ids_are_those_of_transformers(minilm, reference, prompt):
    tokens = minilm()(TEXTS, prompt)
    expected = reference([prompt + t for t in TEXTS], padding=False, truncation=True, max_length=256)["input_ids"]
    assert [s.tolist() for s in tokens.sequences] == expected
    assert tokens.owners.tolist() == list(range(len(TEXTS)))
    assert not tokens.windowed


@given(
    texts=st.lists(st.text(max_size=80), min_size=1, max_size=5),
    max_length=st.integers(3, 40),
    side=st.sampled_from(["left", "right"]),
)
@settings(deadline=None, max_examples=40)
def test_cut_ids_are_those_of_transformers(minilm, reference, texts, max_length, side):
    tokens = minilm("silent", max_length, side)(texts)
    reference.truncation_side = side
    expected = reference(texts, padding=False, truncation=True, max_length=max_length)["input_ids"]
    assert [s.tolist() for s in tokens.sequences] == expected


@pytest.mark.parametrize(("side", "kept"), [("right", "abcd"), ("left", "wxyz")])
def test_truncation_side(side, kept):
    tokens = bytewise(6, "silent", truncation_side=side)(["abcdefghijklmnopqrstuvwxyz"])
    assert tokens.sequences[0].tolist() == [START, *body_ids(kept), END]


def test_warn_says_once_how_many_and_the_longest():
    tokenizer = bytewise(8, "warn")
    tokens = tokenizer(["short", "x" * 20, "y" * 50, "z" * 6])
    with pytest.warns(UserWarning, match="max_length") as caught:
        tokenizer.warn_cut(tokens.cut, range(4), stacklevel=2)
    assert len(caught) == 1
    message = str(caught[0].message)
    assert "2 of the texts" in message
    assert "item 1" in message
    assert "52" in message
    assert tokens.cut.tolist() == [0, 22, 52, 0]
    assert [len(s) for s in tokens.sequences] == [7, 8, 8, 8]


def test_error_raises_before_anything_is_cut():
    with pytest.raises(TruncationError, match=r"item 1.*max_length=8.*20") as caught:
        bytewise(8, "error")(["short", "x" * 18])
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(("policy", "truncated"), [("silent", 1), ("chunk", 0)])
def test_silent_and_chunk_do_not_warn(policy, truncated):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert bytewise(8, policy)(["x" * 20]).cut.tolist() == [22 if truncated else 0]


@pytest.mark.parametrize("policy", ["chunk", "error", "silent", "warn"])
def test_a_text_of_exactly_max_length_is_left_alone(policy):
    tokens = bytewise(8, policy)(["abcdef"])
    assert tokens.sequences[0].tolist() == [START, *body_ids("abcdef"), END]
    assert not tokens.cut.any()


@given(text=st.text(min_size=1, max_size=300), prompt=st.text(max_size=12), max_length=st.integers(3, 120))
@relaxed
def test_windows_cover_the_text_in_order(text, prompt, max_length):
    body, head = body_ids(text), body_ids(prompt)
    assume(len(head) + 2 < max_length)
    tokens = bytewise(max_length)([text], prompt)
    covered = 0
    for sequence in tokens.sequences:
        ids = sequence.tolist()
        assert len(ids) <= max_length
        assert ids[: 1 + len(head)] == [START, *head]
        assert ids[-1] == END
        window = ids[1 + len(head) : -1]
        starts = [s for s in range(covered + 1) if body[s : s + len(window)] == window]
        assert starts, "a window must go on where the last one ended, or before"
        covered = max(starts) + len(window)
    assert covered == len(body)


@given(texts=st.lists(st.text(max_size=200), max_size=6), max_length=st.integers(3, 60))
@relaxed
def test_the_windows_of_a_text_weigh_1(texts, max_length):
    tokens = bytewise(max_length)(texts)
    sums = np.zeros(len(texts))
    np.add.at(sums, tokens.owners, tokens.weights)
    np.testing.assert_allclose(sums, 1, atol=1e-5)
    assert (tokens.weights > 0).all()
    assert tokens.texts == len(texts)


@given(texts=st.lists(st.text(max_size=200), max_size=6), max_length=st.integers(3, 60))
@relaxed
def test_a_text_is_as_long_as_all_its_windows(texts, max_length):
    tokens = bytewise(max_length)(texts)
    lengths = np.zeros(len(texts), np.int32)
    np.add.at(lengths, tokens.owners, [len(sequence) for sequence in tokens.sequences])
    assert tokens.lengths == lengths.tolist()


def test_windows_weigh_by_their_tokens():
    tokens = bytewise(10)(["x" * 12])
    lengths = np.array([len(s) - 2 for s in tokens.sequences])
    np.testing.assert_allclose(tokens.weights, lengths / lengths.sum(), rtol=1e-6)


@pytest.mark.parametrize("prompt", ["query: ", PROMPT_ZH, "İNDEX İİ: "])
@pytest.mark.parametrize("lowercase", [False, True])
def test_every_window_begins_with_the_whole_prompt(prompt, lowercase):
    tokens = bytewise(80, lowercase=lowercase)(["0123456789" * 30], prompt)
    head = body_ids(prompt.lower() if lowercase else prompt)
    assert len(tokens.sequences) > 3
    assert all(s[1 : 1 + len(head)].tolist() == head for s in tokens.sequences)
    assert all(int(s[1 + len(head)]) in body_ids("0123456789") for s in tokens.sequences)


def test_a_prompt_that_fills_the_window_is_refused():
    with pytest.raises(InputError, match="prompt's 10 tokens"):
        bytewise(8)(["some long text"], "0123456789")


def test_real_windows_keep_all_tokens(minilm, reference):
    text = " ".join(TEXTS[:4] * 20)
    tokens = minilm("chunk", 64)([text, "short"], "query: ")
    head = reference("query:", add_special_tokens=False)["input_ids"]
    seen = {int(i) for s in tokens.sequences[:-1] for i in s}
    assert set(reference("query: " + text)["input_ids"]) == seen
    assert all(s[1 : 1 + len(head)].tolist() == head for s in tokens.sequences)
    assert all(len(s) <= 64 for s in tokens.sequences)
    assert tokens.owners.tolist() == [0] * (len(tokens.sequences) - 1) + [1]


@pytest.mark.parametrize("truncate", ["chunk", "silent"])
def test_a_lone_surrogate_is_named(minilm, truncate):
    with pytest.raises(InputError, match=r"item 2 .*character 3.*\\ud800"):
        minilm(truncate)(["fine", "", "abc\ud800"])


@pytest.mark.parametrize("prompt", ["", "p: "])
@pytest.mark.parametrize(
    "text", ["\0", "a\0b", "word " * 200_000, "🎉" * 10_000, "x" * 1_000_000, "\ufffe\uffff", "\u202eabc\u0301" * 50]
)
def test_hostile_texts(minilm, text, prompt):
    tokens = minilm("silent")([text, "beside"], prompt)
    assert tokens.sequences[0][0] == 101
    assert tokens.sequences[0][-1] == 102
    assert len(tokens.sequences[0]) <= 256
    assert tokens.sequences[1].tolist() == minilm()(["beside"], prompt).sequences[0].tolist()


def test_lowercase_by_the_spec():
    assert bytewise(50, lowercase=True)(["ÀB İ"]).sequences[0].tolist() == [START, *body_ids("ÀB İ".lower()), END]


@pytest.mark.parametrize("max_length", [1, 2])
def test_max_length_must_leave_room(max_length):
    with pytest.raises(InputError, match=rf"max_length={max_length} leaves no room beside 2 special tokens"):
        bytewise(max_length)


def test_no_texts():
    tokens = bytewise(10)([])
    assert tokens.sequences == []
    assert (tokens.texts, len(tokens.cut), len(tokens.owners)) == (0, 0, 0)


def test_a_text_of_no_tokens_is_one_of_padding():
    tokenizer = unframed(padding=7)
    assert [ids.tolist() for ids in tokenizer(["", "a", ""]).sequences] == [[7], body_ids("a"), [7]]


def test_a_text_of_no_tokens_is_named_where_there_is_no_padding():
    """It became token 0 before: a vector of a word that it does not hold."""
    tokenizer = unframed(padding=None)
    with pytest.raises(InputError, match="item 12 is empty"):
        tokenizer(["a", "", ""], items=[11, 12, 13])
    assert [ids.tolist() for ids in tokenizer(["a"]).sequences] == [body_ids("a")]


def test_many_threads_share_one_tokenizer(minilm):
    shared = minilm("chunk", 32)
    batches = [[f"{t} {n} " * (n + 1) for t in TEXTS] for n in range(8)]
    expected = [shared(batch) for batch in batches]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            for got, want in zip(pool.map(shared, batches), expected, strict=True):
                assert [s.tolist() for s in got.sequences] == [s.tolist() for s in want.sequences]


def test_padding_and_truncation_of_the_file_are_ignored(minilm_folder, tmp_path):
    settings_of_file = json.loads((minilm_folder / "tokenizer.json").read_text(encoding="utf-8"))
    assert settings_of_file["padding"] is not None  # so this folder is a case of it
    tokenizer = TextTokenizer(load_tokenizer(minilm_folder), read_spec(minilm_folder), max_length=512, truncate="warn")
    assert [len(s) for s in tokenizer(["one", "one " * 300]).sequences] == [3, 302]


@pytest.mark.parametrize("content", ["", "{", '{"version": "1.0"}', "[]", "\x80"])
def test_a_corrupt_tokenizer_file_is_named(tmp_path, content):
    (tmp_path / "tokenizer.json").write_text(content, encoding="latin-1")
    with pytest.raises(SpecError, match=r"tokenizer\.json cannot be read"):
        load_tokenizer(tmp_path)


def test_a_cut_tokenizer_file_is_named(minilm_folder, tmp_path):
    whole = shutil.copyfile(minilm_folder / "tokenizer.json", tmp_path / "tokenizer.json")
    whole.write_bytes(whole.read_bytes()[:100_000])
    with pytest.raises(SpecError, match=r"tokenizer\.json cannot be read"):
        load_tokenizer(tmp_path)


def test_a_missing_tokenizer_file_says_how_to_make_one(tmp_path):
    with pytest.raises(SpecError, match=r"tokenizer\.json is missing.*AutoTokenizer"):
        load_tokenizer(tmp_path)
