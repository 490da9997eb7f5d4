"""Copies of weights in large pages: the same numbers, in memory of the process's own."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimbed._model_folder.safetensors import is_mapped, read_tensors, write_tensors
from nimbed.backends import large_pages
from nimbed.backends.large_pages import in_large_pages, offered

pytestmark = pytest.mark.skipif(not offered(), reason="this system gives no large pages")
SMAPS = Path("/proc/self/smaps")
KINDS = (np.int8, np.uint8, np.float32, np.int32)


@given(st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 70), st.integers(1, 9)), max_size=8))
def test_copies_have_the_same_numbers_at_cache_lines(shapes):
    rng = np.random.default_rng(0)
    arrays = {
        str(at): rng.integers(-128, 127, (rows, columns)).astype(kind)
        for at, (kind, rows, columns) in enumerate(shapes)
    }
    copies = in_large_pages(arrays)
    assert list(copies) == list(arrays)
    for name, array in arrays.items():
        assert copies[name].dtype == array.dtype
        np.testing.assert_array_equal(copies[name], array)
        assert array.size == 0 or copies[name].ctypes.data % 64 == 0
        assert not np.shares_memory(copies[name], array)
    for one, other in zip(list(copies.values()), list(copies.values())[1:], strict=False):
        assert not np.shares_memory(one, other)


def test_the_memory_is_the_processs_own_and_asks_for_large_pages():
    (copy,) = in_large_pages({"one": np.ones(5, np.float32)}).values()
    at = copy.ctypes.data
    assert at % (2 << 20) == 0
    areas = re.findall(
        r"^([0-9a-f]+)-([0-9a-f]+) (\S+) .*?^VmFlags: (.*?)$", SMAPS.read_text(), re.MULTILINE | re.DOTALL
    )
    ((rights, flags),) = [area[2:] for area in areas if int(area[0], 16) <= at < int(area[1], 16)]
    assert rights == "rw-p"
    assert "hg" in flags.split()


def test_pages_of_the_file_are_given_back(tmp_path):
    path = tmp_path / "arrays.safetensors"
    write_tensors(path, {"one": np.ones((1 << 20, 4), np.int8), "two": np.ones(1 << 20, np.float32)}, {})
    arrays, _ = read_tensors(path)
    copies = in_large_pages(arrays)
    assert all(map(is_mapped, arrays.values()))
    assert not any(map(is_mapped, copies.values()))
    areas = SMAPS.read_text().split(str(path))[1:]
    resident = sum(int(found[1]) for area in areas if (found := re.search(r"^Rss: +(\d+) kB$", area, re.MULTILINE)))
    assert resident < 1024  # of 8 MB
    np.testing.assert_array_equal(copies["two"], arrays["two"])


@pytest.mark.parametrize(
    ("content", "there"),
    [("always [madvise] never\n", True), ("[always] madvise never\n", True), ("always madvise [never]\n", False)],
)
def test_the_system_says_whether_it_gives_them(content, there, tmp_path, monkeypatch):
    monkeypatch.setattr(large_pages, "_SETTING", tmp_path / "enabled")
    assert not offered()
    (tmp_path / "enabled").write_text(content)
    assert offered() is there
