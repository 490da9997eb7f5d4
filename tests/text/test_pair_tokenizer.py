"""Pairs to token ids: templates, segments, and what is cut of a pair that is too long."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.cross_encoders import KINDS, WORDS, write_tokenizer

from nimbed._text.pair_tokenizer import PairTokenizer
from nimbed._text.tokenizer import load_tokenizer
from nimbed._types import ModelSpec, Pair, TokenBatch
from nimbed.errors import InputError, TruncationError


def spec(side="right") -> ModelSpec:
    return ModelSpec(
        architecture="bert",
        hidden_size=32,
        dim=1,
        pooling="cls",
        normalize=False,
        max_length=32,
        task="scoring",
        truncation_side=side,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(made)
    return made


def tokenizer(folder, max_length=32, truncate="silent", side="right"):
    return PairTokenizer(load_tokenizer(folder), spec(side), max_length=max_length, truncate=truncate)


def test_segments_follow_the_template(folder):
    [sequence] = tokenizer(folder)([Pair("the cat", "sat")]).sequences
    assert sequence.dtype == np.int32
    assert sequence.tolist() == [[4, 0], [7, 0], [8, 0], [5, 0], [9, 1], [5, 1]]


def test_a_roberta_template_has_two_ends_between(tmp_path):
    write_tokenizer(tmp_path, KINDS["xlm-roberta"][1])
    [sequence] = tokenizer(tmp_path)([Pair("the cat", "sat")]).sequences
    assert sequence[:, 0].tolist() == [0, 7, 8, 2, 2, 9, 2]
    assert not sequence[:, 1].any()


words = st.lists(st.sampled_from(WORDS), max_size=40).map(" ".join)


@given(query=words, document=words, max_length=st.integers(5, 40), side=st.sampled_from(["left", "right"]))
@settings(max_examples=150, deadline=None)
def test_cut_as_tokenizers_cuts_the_longest_first(folder, query, document, max_length, side):
    [sequence] = tokenizer(folder, max_length, side=side)([Pair(query, document)]).sequences
    reference = load_tokenizer(folder)
    reference.enable_truncation(max_length, strategy="longest_first", direction=side)
    wanted = reference.encode(query, document)
    assert sequence.T.tolist() == [wanted.ids, wanted.type_ids]


def test_many_pairs_as_one_by_one(folder):
    pairs = [Pair("the cat " * n, "sat on a mat " * (7 * n % 50)) for n in range(60)]
    made = tokenizer(folder)
    together = made(pairs)
    assert together.texts == 60
    assert not together.windowed
    for index, pair in enumerate(pairs):
        [alone] = made([pair]).sequences
        assert together.sequences[index].tolist() == alone.tolist()


def test_cut_tells_how_many_tokens_there_were(folder):
    tokens = tokenizer(folder, 8)([Pair("the", "cat"), Pair("the cat", "sat on a mat where is it")])
    assert tokens.cut.tolist() == [0, 12]
    with pytest.raises(TruncationError, match=r'1 of the texts \(first: item 1\).*choose truncate="warn" or "silent"'):
        tokenizer(folder, 8, "error")([Pair("the", "cat"), Pair("the", "cat " * 20)])


def test_what_cannot_be_used(folder):
    with pytest.raises(InputError, match='truncate="chunk"'):
        tokenizer(folder, truncate="chunk")
    with pytest.raises(InputError, match="max_length=4 leaves no room beside 3 special tokens"):
        tokenizer(folder, 4)
    with pytest.raises(InputError, match="the query is not valid Unicode"):
        tokenizer(folder)([Pair("\ud800", "fine")])
    with pytest.raises(InputError, match="item 1 is not valid Unicode"):
        tokenizer(folder)([Pair("fine", "fine"), Pair("fine", "\ud800")])


def test_a_batch_carries_segments(folder):
    sequences = tokenizer(folder)([Pair("the cat", "sat"), Pair("", "")]).sequences
    batch = TokenBatch.from_sequences(sequences)
    assert batch.lengths.tolist() == [6, 3]
    assert batch.type_ids.tolist() == [0, 0, 0, 0, 1, 1, 0, 0, 1]
    padded = batch.padded(7)
    assert padded["token_type_ids"].tolist() == [[0, 0, 0, 0, 1, 1, 0], [0, 0, 1, 0, 0, 0, 0]]
    assert padded["attention_mask"].sum() == 9
