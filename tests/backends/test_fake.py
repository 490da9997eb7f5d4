"""The stand-in for tests: the same texts have the same vectors everywhere, and like texts are near each other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nimbed._types import TokenBatch
from nimbed.backends.fake import SPEC, FakeBackend, tokenizer

TOKENIZER = tokenizer()
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


def vectors(*texts, spec=SPEC):
    sequences = [np.array(encoding.ids, np.int32) for encoding in TOKENIZER.encode_batch(list(texts))]
    return FakeBackend(spec).session().run(TokenBatch.from_sequences(sequences))


def test_vectors_do_not_change_from_version_to_version():
    """Users' tests may hold what it gives."""
    found = vectors("The cat sat.")[0]
    places = np.flatnonzero(found)
    assert places.tolist() == [0, 55, 56, 61, 177, 187, 232, 295, 334, 357]
    assert (found[places] * np.sqrt(10)).round(5).tolist() == [-1, -1, 1, -1, -1, -1, -1, -1, 1, -1]


def test_texts_that_share_words_are_near_each_other():
    near, far, query = vectors("The cat sat on the mat.", "Prices rose in May.", "the cat on a mat")
    assert near @ query > 0.4
    assert abs(far @ query) < 0.2


@given(st.lists(ANY_TEXT, min_size=1, max_size=8))
def test_rows_are_of_length_one_whatever_the_company(texts):
    found = vectors(*texts)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(found, np.concatenate([vectors(text) for text in texts]))


def test_the_spec_decides_about_width_and_norm():
    assert vectors("a text", spec=replace(SPEC, dim=16)).shape == (1, 16)
    assert np.linalg.norm(vectors("a text", spec=replace(SPEC, normalize=False))) > 1


@given(ANY_TEXT)
def test_tokens_are_bytes_between_two_ends(text):
    lowered = TOKENIZER.normalizer.normalize_str(text)
    encoding = TOKENIZER.encode(text)
    assert encoding.ids[0] == 0
    assert encoding.ids[-1] == 1
    assert len(encoding.ids) == len(lowered.encode()) + 2
