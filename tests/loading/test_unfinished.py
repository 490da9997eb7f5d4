"""A build's pieces are there as they were stored, or not at all."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.artefacts import SPEC
from tests.support.building import request_of_a_model

from nimbed._loading import unfinished as module
from nimbed._loading.target_lock import target_lock
from nimbed._loading.unfinished import Unfinished, held, unfinished
from nimbed.errors import ArtefactError, BuildError, QualityError

ARRAYS = {"a.weights": np.arange(6, dtype=np.int8).reshape(2, 3), "b": np.float32([0.5, -1]), "n": np.array(3)}


@pytest.fixture
def pieces(tmp_path):
    return Unfinished(folder=tmp_path / "unfinished", inputs="these")


def same(found, expected=ARRAYS):
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert found[name].dtype == values.dtype
        np.testing.assert_array_equal(found[name], values)


def test_what_is_stored_is_there_and_nothing_else_is_left(pieces):
    assert pieces.load("layer.0") is None
    pieces.store("layer.0", ARRAYS)
    pieces.store("layer.0", ARRAYS)
    same(pieces.load("layer.0"))
    assert [path.name for path in pieces.folder.iterdir()] == ["layer.0.piece"]


def test_a_piece_is_computed_once(pieces):
    calls = []
    for _ in range(2):
        same(pieces.kept("one", lambda: calls.append(1) or ARRAYS))
    assert calls == [1]


def test_parts_have_names_of_their_own(pieces):
    pieces.within("query").store("layer.0", ARRAYS)
    assert pieces.load("layer.0") is None
    assert pieces.within("document").load("layer.0") is None
    same(pieces.within("query").load("layer.0"))


def test_pieces_of_other_inputs_and_other_names_are_not_seen(pieces):
    pieces.store("layer.0", ARRAYS)
    assert replace(pieces, inputs="others").load("layer.0") is None
    (pieces.folder / "layer.0.piece").rename(pieces.folder / "layer.1.piece")
    assert pieces.load("layer.1") is None


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    pieces = Unfinished(folder=tmp_path_factory.mktemp("pieces"), inputs="these")
    pieces.store("one", ARRAYS)
    return pieces, (pieces.folder / "one.piece").read_bytes()


@given(data=st.data())
def test_a_damaged_piece_is_not_there(data, stored):
    pieces, whole = stored
    content = bytearray(whole)
    if data.draw(st.booleans(), "cut"):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    else:
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    (pieces.folder / "one.piece").write_bytes(content)
    assert pieces.load("one") is None


def test_what_was_half_written_is_not_there_and_is_written_over(pieces, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", killed)
        with pytest.raises(KeyboardInterrupt):
            pieces.store("one", ARRAYS)
    assert pieces.load("one") is None
    pieces.store("one", ARRAYS)
    assert [path.name for path in pieces.folder.iterdir()] == ["one.piece"]


def test_a_piece_that_cannot_be_stored_is_an_error_that_says_where(pieces):
    pieces.folder.write_text("a file")
    with pytest.raises(ArtefactError, match=r"one\.piece: a piece of the build cannot be stored: .*NIMBED_HOME"):
        pieces.store("one", ARRAYS)


# The folder


@pytest.fixture
def request_(tmp_path, monkeypatch):
    monkeypatch.setenv("NIMBED_HOME", str(tmp_path / "home"))
    return request_of_a_model(SPEC, target=str(tmp_path / "out"), key="0123456789abcdef", engine="native")


def test_it_lies_beside_the_artefacts_whatever_the_target(request_, tmp_path):
    folder = tmp_path / "home" / "artefacts" / "some--model-native-int8-0123456789abcdef.unfinished"
    assert unfinished(request_).folder == folder
    assert unfinished(replace(request_, target="/elsewhere")).folder == folder
    assert unfinished(replace(request_, key="f" * 16)).folder != folder


def test_other_kernels_and_another_nimbed_do_not_see_them(request_, monkeypatch):
    unfinished(request_, "native 4").store("one", ARRAYS)
    assert unfinished(request_, "native 5").load("one") is None
    monkeypatch.setattr(module, "version_of", lambda _: "another")
    assert unfinished(request_, "native 4").load("one") is None


@pytest.mark.parametrize(("end", "left"), [(None, False), (QualityError, False), (BuildError, True), (KeyError, True)])
def test_the_pieces_go_when_nothing_more_is_to_come(end, left, request_):
    pieces = unfinished(request_)
    try:
        with held(request_):
            pieces.store("one", ARRAYS)
            with target_lock(pieces.folder, wait=False) as free:
                assert not free
            if end is not None:
                raise end("said")
    except (BuildError, KeyError) as err:
        assert type(err) is end  # noqa: PT017 (the block ends by itself too)
    assert pieces.folder.exists() is left
    with target_lock(pieces.folder, wait=False) as free:
        assert free
