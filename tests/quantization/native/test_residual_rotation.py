"""The residual stream in another basis: an orthogonal one, in which outliers are spread and the vectors stay."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.networks import real_texts, token_ids, write_folder

from nimbed.backends.native import read_packed
from nimbed.quantization.native.measured import in_memory
from nimbed.quantization.native.residual_rotation import can_be_rotated, rotated, turned
from nimbed.spec import read_spec

SIZES = st.sampled_from([1, 3, 32, 64, 96, 384, 640, 768, 1024])


def network(name, folder, **wanted):
    write_folder(name, folder, **wanted)
    return read_packed(folder, folder / "model.safetensors", read_spec(folder))


@given(SIZES, st.sampled_from([0, 32]), st.integers(0, 99))
def test_the_basis_is_orthogonal_and_padding_stays_zero(size, padding, seed):
    rows = np.random.default_rng(seed).normal(size=(5, size + padding)).astype(np.float32)
    rows[:, size:] = 0
    made = turned(rows, size)
    np.testing.assert_allclose(made @ made.T, rows @ rows.T, rtol=1e-4, atol=1e-4)
    assert not made[:, size:].any()


@pytest.mark.parametrize("size", [64, 384, 640, 1024, 2560])
def test_neither_a_lone_channel_nor_what_all_have_in_common_is_large_then(size):
    power = size & -size
    for rows, most in ((np.eye(size)[:7], 1.0), (np.ones((1, size)) / size**0.5, (size / power) ** 0.5)):
        assert np.abs(turned(rows.astype(np.float32), size)).max() <= 1.01 * most / power**0.5


def test_rows_are_turned_the_same_whatever_is_beside_them(monkeypatch):
    rows = np.random.default_rng(0).normal(size=(9, 96)).astype(np.float32)
    whole = turned(rows, 96)
    monkeypatch.setattr("nimbed.quantization.native.residual_rotation._ROWS", 2)
    np.testing.assert_array_equal(turned(rows, 96), whole)
    np.testing.assert_array_equal(turned(rows[3], 96), whole[3])


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("name", ["qwen3", "eurobert"])
def test_a_rotated_network_computes_what_it_did(name, tmp_path):
    arrays, settings = network(name, tmp_path, variant="planted")
    assert can_be_rotated(settings)
    sequences = [np.array(ids, np.int32) for ids in token_ids(tmp_path, real_texts(6), longest=60)]
    kept = {key: values.copy() for key, values in arrays.items()}
    found = in_memory(*rotated(arrays, settings), 1)(sequences)
    expected = in_memory(arrays, settings, 1)(sequences)
    assert np.abs(found - expected).max() <= 2e-4 * np.abs(expected).max()
    for key, values in arrays.items():  # nobody else's arrays are touched
        np.testing.assert_array_equal(values, kept[key])


@pytest.mark.usefixtures("native")
def test_a_dense_layer_that_is_there_reads_the_other_basis(tmp_path):
    arrays, settings = network("qwen3", tmp_path, variant="planted")
    sequences = [np.array(ids, np.int32) for ids in token_ids(tmp_path, real_texts(3), longest=40)]
    once = rotated(arrays, settings)
    twice = rotated(*once)
    assert len(once[1]["head"]) == len(twice[1]["head"]) == 1
    assert np.abs(twice[0]["head.0.weights"] - once[0]["head.0.weights"]).max() > 0.1
    found, expected = in_memory(*twice, 1)(sequences), in_memory(arrays, settings, 1)(sequences)
    assert np.abs(found - expected).max() <= 2e-4 * np.abs(expected).max()


@pytest.mark.usefixtures("native")
def test_channels_are_alike_then(tmp_path):
    arrays, settings = network("qwen3", tmp_path, variant="planted")
    sizes = [np.abs(one["words"]).mean(axis=0)[: settings["size"]] for one in (arrays, rotated(arrays, settings)[0])]
    before, after = (one.max() / np.median(one) for one in sizes)
    assert before > 4
    assert after < 2.5


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("name", ["bert", "modernbert", "gemma3"])
def test_other_norms_do_not_allow_it(name, tmp_path):
    _, settings = network(name, tmp_path)
    assert not can_be_rotated(settings)


def test_nor_does_a_pooling_that_looks_at_channels():
    step = {"rms": True, "after": None, "keeps": True}
    settings = {"embedding_norm": step, "layers": [{"attention_norm": step, "output_norm": step}], "size": 64}
    assert can_be_rotated({**settings, "pooling": "mean"})
    assert not can_be_rotated({**settings, "pooling": "max"})
