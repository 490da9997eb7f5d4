"""Layers in 8 bits: those that are stored are finished, whatever became of the build."""

from __future__ import annotations

import numpy as np
import pytest
from tests.support.networks import write_folder

from nimbed._loading.unfinished import Unfinished
from nimbed.backends.native import read_packed
from nimbed.quantization.native import layers as module
from nimbed.quantization.native.layers import in_8_bits
from nimbed.spec import read_spec

pytestmark = pytest.mark.usefixtures("native")
SEQUENCES = [np.arange(start, start + length, dtype=np.int32) for start, length in ((5, 3), (9, 9), (7, 1))]


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    folder = write_folder("bert", tmp_path_factory.mktemp("models") / "model")
    return read_packed(folder, folder / "model.safetensors", read_spec(folder))


@pytest.fixture
def pieces(tmp_path):
    return Unfinished(folder=tmp_path / "pieces", inputs="these")


@pytest.fixture(params=[1, 2, 4], autouse=True)
def stored(request, monkeypatch):
    """Behind how many layers each it is stored where the texts are."""
    monkeypatch.setattr(module, "_STORED", request.param)
    return request.param


@pytest.fixture
def rounded(monkeypatch):
    """Numbers of the layers that were computed."""
    numbers, compute = [], module._rounded

    def counted(arrays, settings, number, observed, threads):
        numbers.append(number)
        return compute(arrays, settings, number, observed, threads)

    monkeypatch.setattr(module, "_rounded", counted)
    return numbers


def build(network, pieces, told=lambda *_: None):
    return in_8_bits(*network, SEQUENCES, 2, pieces, told)


def same(a, b):
    assert a.keys() == b.keys()
    for name, values in a.items():
        assert values.dtype == b[name].dtype
        np.testing.assert_array_equal(values, b[name])


@pytest.mark.parametrize("stopped_after", [1, 2, 3])
def test_a_build_goes_on_at_the_first_layer_that_is_not_finished(stopped_after, network, pieces, rounded, tmp_path):
    whole = build(network, Unfinished(folder=tmp_path / "whole", inputs="these"))
    rounded.clear()

    def stop(done, layers):
        assert layers == 3
        if done == stopped_after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(network, pieces, stop)
    told = []
    same(build(network, pieces, lambda done, _: told.append(done)), whole)
    assert rounded == [0, 1, 2]
    assert told == [1, 2, 3]


def test_a_piece_that_is_damaged_or_lost_is_computed_again_and_no_other(network, pieces, rounded):
    whole = build(network, pieces)
    for spoil in (lambda path: path.unlink(), lambda path: path.write_bytes(path.read_bytes()[:-1])):
        rounded.clear()
        spoil(pieces.folder / "layer.1.piece")
        same(build(network, pieces), whole)
        assert rounded == [1]


@pytest.mark.parametrize("stored", [1, 2], indirect=True)  # behind all three layers nothing is stored
def test_a_kill_between_a_layer_and_where_the_texts_are(stored, network, pieces, rounded, monkeypatch):
    whole = build(network, pieces)
    texts = pieces.folder / "texts.piece"
    for name in ("layer.0", "layer.1", "layer.2"):
        (pieces.folder / f"{name}.piece").unlink()
    texts.unlink()
    with monkeypatch.context() as patch:
        patch.setattr(module.Observed, "store", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            build(network, pieces)
    rounded.clear()
    same(build(network, pieces), whole)
    assert rounded == list(range(stored, 3))
