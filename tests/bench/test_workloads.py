"""Which texts are embedded."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.contenders import Odd, make_texts

from nimbed.bench import Texts, bench, shipped_texts
from nimbed.errors import InputError


def test_texts_must_be_there():
    with pytest.raises(InputError, match="documents"):
        Texts(documents=[], queries=["a", "b"], origin="nowhere")
    with pytest.raises(InputError, match="documents"):
        Texts.of([], "nowhere")
    with pytest.raises(InputError, match="own settings"):
        bench([Odd(label="odd")], texts=make_texts())


def test_shipped_texts_are_of_natural_length():
    texts = shipped_texts()
    assert (len(texts.documents), len(texts.queries)) == (256, 60)
    assert max(map(len, texts.queries)) <= 160


@given(have=st.integers(2, 300), documents=st.integers(1, 60), queries=st.integers(2, 60))
def test_fewer_texts_are_spread_over_all_that_there_are(have, documents, queries):
    texts = Texts(documents=[f"{n}" for n in range(have)], queries=[f"{n}" for n in range(have)], origin="o")
    fewer = texts.fewer(documents=documents, queries=queries)
    for kept, count in ((fewer.documents, documents), (fewer.queries, queries)):
        places = [int(text) for text in kept]
        assert len(places) == min(count, have)
        assert places[0] == 0
        assert count == 1 or places[-1] == have - 1
        assert len(places) < 2 or np.ptp(np.diff(places)) <= 1
    assert fewer.origin == "o"


def test_many_documents_are_thinned_and_their_excerpts_are_queries():
    documents = [f"document {n} says something of its own" for n in range(1000)]
    texts = Texts.of(documents, "a file")
    assert (len(texts.documents), len(texts.queries), texts.origin) == (256, 60, "a file")
    assert texts == Texts.of(documents, "a file")  # every contender and every run the same
    assert all(any(query in document for document in texts.documents) for query in texts.queries)


def test_one_query_is_too_few():
    with pytest.raises(InputError, match="two queries or more"):
        Texts(documents=["a"], queries=["b"], origin="o")
