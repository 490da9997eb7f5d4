"""safetensors files as the library writes them, as nimbed does, and damaged in any way."""

from __future__ import annotations

import json

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nimbed._model_folder.safetensors import is_mapped, read_names, read_tensors, write_tensors
from nimbed.errors import ArtefactError

ARRAYS = {
    "a": np.arange(32, dtype=np.float32).reshape(2, 16),
    "b": np.arange(-64, 64, dtype=np.int8).reshape(2, 16, 4),
}


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "some.safetensors"
    write_tensors(path, ARRAYS, {"said": "ü"})
    return path


def test_an_array_of_a_file_is_mapped_and_one_in_memory_is_not(written):
    mapped = read_tensors(written)[0]["a"]
    assert is_mapped(mapped)
    assert is_mapped(mapped[1:].reshape(-1))
    assert not is_mapped(mapped.copy())
    assert not is_mapped(np.memmap(written, np.uint8, mode="c")[8:])


def test_the_library_reads_what_is_written(written):
    read = safetensors.numpy.load_file(written)
    for name, values in ARRAYS.items():
        np.testing.assert_array_equal(read[name], values)
        assert read[name].dtype == values.dtype


def test_arrays_are_views_that_begin_at_cache_lines(written):
    arrays, metadata = read_tensors(written)
    assert metadata == {"said": "ü"}
    for name, values in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], values)
        assert arrays[name].ctypes.data % 64 == 0
        assert not arrays[name].flags.owndata


def test_what_the_library_writes_is_read(tmp_path):
    arrays = {"x": np.float16([1, 2, 3]), "long": np.arange(5), "y": np.float64([[0.5]]), "empty": np.zeros((0, 3))}
    safetensors.numpy.save_file(arrays, tmp_path / "m.safetensors")
    read, _ = read_tensors(tmp_path / "m.safetensors")
    for name, values in arrays.items():
        np.testing.assert_array_equal(read[name], values)


def test_bfloat16_becomes_float32(tmp_path):
    torch = pytest.importorskip("torch")
    import safetensors.torch

    safetensors.torch.save_file({"w": torch.tensor([1.5, -2.0, 3.25]).bfloat16()}, tmp_path / "m.safetensors")
    read, _ = read_tensors(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(read["w"], np.float32([1.5, -2.0, 3.25]))


def test_an_array_that_would_shift_the_next_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="a has 4 bytes"):
        write_tensors(tmp_path / "m.safetensors", {"a": np.float32([1])}, {})


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_is_refused_or_harmless(data, written):
    """Cut anywhere, or with bytes of the header changed: an error of ours, or arrays within the file."""
    content = bytearray(written.read_bytes())
    header = 8 + int.from_bytes(content[:8], "little")
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    else:
        for at in data.draw(st.lists(st.integers(0, header - 1), min_size=1, max_size=4)):
            content[at] = data.draw(st.integers(0, 255))
    damaged = written.with_name("damaged.safetensors")
    damaged.write_bytes(content)
    try:
        arrays, _ = read_tensors(damaged)
    except ArtefactError:
        return
    assert sum(values.nbytes for values in arrays.values()) <= 2 * len(content) * len(arrays)
    assert all(np.isfinite(values.sum(dtype=np.float64)) or values.dtype.kind == "f" for values in arrays.values())


@pytest.mark.parametrize("dtype", ["BF16", "F32"])
def test_tensors_that_overlap_are_refused_as_the_library_does(dtype, tmp_path):
    """Else a file of any size would ask for as much memory as its header has names."""
    size = {"BF16": 2, "F32": 4}[dtype]
    for begin in (0, size, 8 - size):
        records = {name: {"dtype": dtype, "shape": [8 // size], "data_offsets": [at, at + 8]}
                   for name, at in {"a": 0, "b": begin}.items()}  # fmt: skip
        header = json.dumps(records).encode()
        path = tmp_path / "m.safetensors"
        path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8 + begin))
        with pytest.raises(safetensors.SafetensorError):
            safetensors.numpy.load_file(path)
        for read in (read_tensors, read_names):
            with pytest.raises(ArtefactError, match="damaged: a and b overlap"):
                read(path)


@pytest.mark.parametrize(
    "header",
    [
        b"[]", b"{", b"nul", b'{"a": 1}', b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 8]}}',
        b'{"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F32", "shape": [4611686018427387904, 4], "data_offsets": [0, 0]}}',
        b'{"a": {"dtype": "F32", "shape": [1000000], "data_offsets": [0, 4000000]}}',
        b'{"a": {"dtype": "F32", "shape": [0], "data_offsets": [8, 8, 8]}}',
    ],
)  # fmt: skip
def test_headers_that_lie_are_refused(header, tmp_path):
    path = tmp_path / "m.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(64))
    with pytest.raises(ArtefactError, match="damaged"):
        read_tensors(path)
