"""Texts are counted in the network's tokens, and made of an exact number of them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.contenders import Odd, make_network, make_texts

from nimbed.bench.network import network_of
from nimbed.errors import InputError
from nimbed.evaluate import Setting


@pytest.fixture(scope="module")
def network(fake):
    """With a tokenizer that makes several tokens of a word."""
    return network_of([fake])


@settings(max_examples=25, deadline=None)
@given(tokens=st.integers(3, 64), count=st.integers(1, 5))
def test_texts_of_exactly_so_many_tokens(network, tokens, count):
    texts = network.exact(tokens, count, make_texts().documents)
    assert network.lengths(texts, 512) == [tokens] * count


def test_no_text_of_so_many_tokens(network):
    with pytest.raises(InputError, match="exactly 64 tokens"):
        network.exact(64, 2, ["too short"])


def test_lengths_are_cut_at_the_most():
    assert make_network().lengths(["a b c d", "a", ""], 3) == [3, 1, 0]


@given(words=st.integers(1, 120), tokens=st.integers(1, 40), count=st.integers(1, 6))
def test_texts_differ_where_the_documents_allow_it(words, tokens, count):
    documents = [f"w{n}" for n in range(words)]
    if words < tokens:
        with pytest.raises(InputError, match=f"exactly {tokens} tokens"):
            make_network().exact(tokens, count, documents)
        return
    texts = make_network().exact(tokens, count, documents)
    assert [len(text.split()) for text in texts] == [tokens] * count
    starts = len(range(0, words - tokens + 1, max(1, tokens // 4)))
    assert len(set(texts)) == min(count, starts)


def test_the_network_is_that_of_fp32_in_openvino_if_there_is_one(monkeypatch):
    opened = []

    def refuse(setting, max_length):
        opened.append(setting)
        raise InputError("opened")

    monkeypatch.setattr("nimbed.evaluate.Setting.open", refuse)
    torch, small, whole = (
        Setting(model="m", backend=backend, precision=precision)
        for backend, precision in (("torch", "fp32"), ("native", "int8"), ("openvino", "fp32"))
    )
    for contenders in ([torch, small, whole], [whole, small], [Odd(label="odd"), torch, small], [torch]):
        with pytest.raises(InputError, match="opened"):
            network_of(contenders)
    assert opened == [whole, whole, small, torch]


def test_the_longest_text_is_that_of_the_models_positions(fake):
    found = network_of([Odd(label="odd"), fake])
    assert found.longest == 64
    assert found.operations is None
    assert found.lengths(["cat " * 400], 500) == [402]  # nothing is cut, nothing is padded


def test_nobody_of_nimbeds_own_cannot_count():
    with pytest.raises(InputError, match="own settings"):
        network_of([Odd(label="odd")])
