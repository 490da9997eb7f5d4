from __future__ import annotations

import mmap
import sys
from pathlib import Path

import numpy as np
import pytest

from nimbed._model_folder.safetensors import read_tensors, write_tensors
from nimbed.backends import mapped_table
from nimbed.backends.mapped_table import MappedTable

linux = pytest.mark.skipif(sys.platform != "linux", reason="Linux tells what is resident")


@pytest.fixture
def arrays(tmp_path, monkeypatch):
    monkeypatch.setattr(mapped_table, "_MIN_BYTES", 1 << 20)
    rng = np.random.default_rng(0)
    written = {
        "first": rng.standard_normal((3, 16), np.float32),
        "words": rng.integers(-127, 128, (4096, 1024), np.int8),
        "last": rng.standard_normal((3, 16), np.float32),
    }
    write_tensors(tmp_path / "weights.safetensors", written, {})
    return written, read_tensors(tmp_path / "weights.safetensors")[0], tmp_path / "weights.safetensors"


def resident(path: Path) -> int:
    """Bytes of the file that this process has mapped and read."""
    found, inside = 0, False
    for line in Path("/proc/self/smaps").read_text(encoding="utf-8").splitlines():
        name, *rest = line.split(maxsplit=5)
        if "-" in name and not name.endswith(":"):
            inside = bool(rest) and rest[-1] == str(path)
        elif inside and name == "Rss:":
            found += int(rest[0]) * 1024
    return found


@linux
def test_pages_are_given_back_after_so_many_tokens_and_read_again(arrays):
    written, mapped, path = arrays
    table = MappedTable.of(mapped)
    assert mapped["words"].astype(int).sum() == written["words"].astype(int).sum()
    assert resident(path) >= mapped["words"].nbytes
    table.looked_up(255)
    assert resident(path) >= mapped["words"].nbytes
    table.looked_up(1)
    assert resident(path) <= 16 * mmap.PAGESIZE
    for name, values in written.items():
        np.testing.assert_array_equal(mapped[name], values)


def test_a_small_table_and_one_in_memory_of_its_own_stay(arrays, monkeypatch):
    _, mapped, _ = arrays
    assert MappedTable.of({"words": mapped["words"].copy()}) is None
    monkeypatch.setattr(mapped_table, "_MIN_BYTES", mapped["words"].nbytes + 1)
    assert MappedTable.of(mapped) is None
