"""Rows written block by block into a .npy file, which appears when it is whole."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimbed._files.npy import write_rows
from nimbed.errors import BackendError, InputError


def of_rows(*counts):
    rng = np.random.default_rng(0)
    return [rng.standard_normal((count, 3)).astype(np.float32) for count in counts]


@given(counts=st.lists(st.integers(0, 5), max_size=6))
def test_numpy_reads_all_rows(counts, tmp_path_factory):
    path = tmp_path_factory.mktemp("npy") / "a.npy"
    blocks = of_rows(*counts)
    assert write_rows(path, blocks, 3) == sum(counts)
    read = np.load(path)
    assert read.dtype == np.float32
    assert read.shape == (sum(counts), 3)
    np.testing.assert_array_equal(read, np.concatenate([*blocks, np.empty((0, 3), np.float32)]))


def test_other_layouts_are_written_as_rows(tmp_path):
    block = of_rows(4)[0]
    write_rows(tmp_path / "a.npy", [np.asfortranarray(block).astype(">f4"), block[::-1]], 3)
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), np.concatenate([block, block[::-1]]))


def test_nothing_is_left_of_a_run_that_fails(tmp_path):
    (tmp_path / "a.npy").write_bytes(b"of an earlier run")

    def failing():
        yield of_rows(2)[0]
        raise BackendError("the engine failed")

    with pytest.raises(BackendError, match="the engine failed"):
        write_rows(tmp_path / "a.npy", failing(), 3)
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("a.npy", b"of an earlier run")]


def test_a_link_stays_one(tmp_path):
    (tmp_path / "link.npy").symlink_to(tmp_path / "a.npy")
    write_rows(tmp_path / "link.npy", of_rows(1), 3)
    assert (tmp_path / "link.npy").is_symlink()
    assert np.load(tmp_path / "a.npy").shape == (1, 3)


def test_where_it_cannot_be_written_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere/a\.npy cannot be written"):
        write_rows(tmp_path / "nowhere" / "a.npy", of_rows(1), 3)
    with pytest.raises(InputError, match="exists and is no file"):
        write_rows(tmp_path, of_rows(1), 3)
