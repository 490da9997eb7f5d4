"""``pytorch_model.bin``: what torch writes is read as torch reads it; what is damaged or malicious is refused."""

from __future__ import annotations

import struct
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.torch_files import archive, state, storage, tensor

from nimbed._model_folder.torch_file import read_names, read_tensors
from nimbed.errors import ArtefactError, SpecError

SIX = np.arange(6, dtype=np.float32)
HELD = storage("0", 6)
CODE = state(a=tensor(HELD, (2, 3), (3, 1)), b=tensor(HELD, (2,), (2,), 1))


@pytest.fixture
def path(tmp_path):
    return archive(tmp_path / "pytorch_model.bin", CODE, {"0": SIX.tobytes()})


def test_torch_is_not_needed(path):
    read = read_tensors(path)
    np.testing.assert_array_equal(read["a"], SIX.reshape(2, 3))
    np.testing.assert_array_equal(read["b"], [1, 3])
    assert read_names(path) == ["a", "b"]
    assert not any(values.flags.writeable for values in read.values())


def test_what_torch_writes_is_read_as_torch_reads_it(tmp_path):
    torch = pytest.importorskip("torch")
    whole = torch.arange(48.0).reshape(6, 8)
    kinds = ("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool")
    written = {
        "turned": whole.t(), "part": whole[2:4, ::2], "tied": whole, "row": whole[3], "number": whole[1, 2],
        "parameter": torch.nn.Parameter(torch.ones(3)), "empty": torch.zeros(0, 4),
        "ids": torch.arange(512).expand((1, -1)),
        **{kind: torch.tensor([0, 1, 3]).to(getattr(torch, kind)) for kind in kinds},
    }  # fmt: skip
    torch.save(written, tmp_path / "pytorch_model.bin")
    read = read_tensors(tmp_path / "pytorch_model.bin")
    assert list(read) == list(written)
    for name, original in written.items():
        values = (original.float() if original.dtype == torch.bfloat16 else original).detach()
        np.testing.assert_array_equal(read[name], values.numpy())
        assert read[name].dtype == values.numpy().dtype
    assert np.shares_memory(read["tied"], read["turned"])
    module = torch.nn.Linear(3, 2)
    torch.save(module.state_dict(), tmp_path / "module.bin")  # with versions of modules
    np.testing.assert_array_equal(read_tensors(tmp_path / "module.bin")["weight"], module.weight.detach().numpy())


def test_arrays_are_views_of_the_file(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"a": torch.ones(1000, 100)}, tmp_path / "pytorch_model.bin")
    values = read_tensors(tmp_path / "pytorch_model.bin")["a"]
    while values.base is not None and not isinstance(values, np.memmap):
        values = values.base
    assert isinstance(values, np.memmap)


@pytest.mark.parametrize("name", ["float8_e4m3fn", "complex64"])
def test_kinds_that_no_engine_computes_with_are_named(tmp_path, name):
    torch = pytest.importorskip("torch")
    torch.save({"a": torch.ones(2).to(getattr(torch, name))}, tmp_path / "pytorch_model.bin")
    with pytest.raises(SpecError, match=r"pytorch_model\.bin: it names .*torch.*save them as safetensors"):
        read_tensors(tmp_path / "pytorch_model.bin")


def test_the_older_form_is_refused_with_the_command_that_converts(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"a": torch.ones(2)}, tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    (tmp_path / "tar.bin").write_bytes(bytes(257) + b"ustar" + bytes(100))
    for name in ("pytorch_model.bin", "tar.bin"):
        with pytest.raises(SpecError, match=r"before torch 1\.6.*save_pretrained\(.*safe_serialization=True\)"):
            read_tensors(tmp_path / name)


def test_torchscript_is_refused(tmp_path):
    torch = pytest.importorskip("torch")
    with pytest.warns(DeprecationWarning, match="jit"):
        torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)), tmp_path / "pytorch_model.bin")
    with pytest.raises(ArtefactError, match=r"code/__torch__.* is compressed"):
        read_tensors(tmp_path / "pytorch_model.bin")


@pytest.mark.parametrize(
    ("shape", "strides", "offset"),
    [
        ((2, 3), (3, 1), 1), ((7,), (1,), 0), ((6,), (2,), 0), ((2,), (6,), 0), ((-1,), (1,), 0), ((2,), (-1,), 3),
        ((2,), (1,), -1), ((2**62, 2), (0, 0), 0), ((2**70,), (1,), 0), ((12,), (0,), 0), ((1,), (1,), 6),
        ((1,) * 17, (1,) * 17, 0), ((0, 2**40, 2**40), (1, 1, 1), 0), ((1,), (2**80,), 0),
    ],
)  # fmt: skip
def test_a_tensor_lies_within_its_storage(tmp_path, shape, strides, offset):
    path = archive(tmp_path / "m.bin", state(a=tensor(HELD, shape, strides, offset)), {"0": SIX.tobytes()})
    with pytest.raises(ArtefactError, match=r"m\.bin"):
        read_tensors(path)


@pytest.mark.parametrize("content", [SIX.tobytes()[:-1], SIX.tobytes() + b"\0", SIX.tobytes() * 2, b""])
def test_a_storage_has_the_numbers_that_the_pickle_says(tmp_path, content):
    with pytest.raises(ArtefactError, match="not 6 numbers of float32"):
        read_tensors(archive(tmp_path / "m.bin", CODE, {"0": content}))


def test_a_storage_that_is_not_there(tmp_path):
    with pytest.raises(ArtefactError, match="model/data/0' is missing"):
        read_tensors(archive(tmp_path / "m.bin", CODE))
    with pytest.raises(ArtefactError, match="is missing"):
        read_tensors(archive(tmp_path / "m.bin", state(a=tensor(storage("../data.pkl", 1), (1,), (1,)))))


def test_names_for_the_same_numbers_have_an_end(tmp_path):
    many = {f"t{n}": tensor(HELD, (6,), (1,)) for n in range(65)}
    with pytest.raises(ArtefactError, match="more than 64 times"):
        read_tensors(archive(tmp_path / "m.bin", state(**many), {"0": SIX.tobytes()}))
    many.popitem()
    assert len(read_tensors(archive(tmp_path / "m.bin", state(**many), {"0": SIX.tobytes()}))) == 64


def test_changed_numbers_are_told(path):
    content = path.read_bytes()
    at = content.index(SIX.tobytes())
    path.write_bytes(content[:at] + b"\x01" + content[at + 1 :])
    with pytest.raises(ArtefactError, match="CRC-32 of model/data/0"):
        read_tensors(path)


def test_big_endian_numbers_are_refused(tmp_path):
    path = tmp_path / "m.bin"
    with zipfile.ZipFile(path, "w") as file:
        for name, content in {"data.pkl": CODE, "byteorder": b"big", "data/0": SIX.tobytes()}.items():
            file.writestr(f"m/{name}", content)
    with pytest.raises(SpecError, match="little-endian"):
        read_tensors(path)


@pytest.mark.parametrize("content", [b"", b"PK", b"PK\3\4", b"x" * 300, b"<html>", b"PK\3\4" + bytes(200)])
def test_what_is_no_such_file(tmp_path, content):
    (tmp_path / "m.bin").write_bytes(content)
    with pytest.raises(ArtefactError, match=r"m\.bin is no file of torch\.save's, or damaged"):
        read_tensors(tmp_path / "m.bin")


@pytest.mark.parametrize("names", [("a/data.pkl", "b/data.pkl"), ("data.pkl",), ("a/b/data.pkl",)])
def test_one_pickle_is_wanted(tmp_path, names):
    with zipfile.ZipFile(tmp_path / "m.bin", "w") as file:
        for name in names:
            file.writestr(name, CODE)
    with pytest.raises(ArtefactError, match=r"files data\.pkl, not one"):
        read_tensors(tmp_path / "m.bin")


@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_is_refused_or_harmless(data, path):
    content = bytearray(path.read_bytes())
    kind = data.draw(st.sampled_from(["cut", "bytes", "moved", "number"]))
    at = data.draw(st.integers(0, len(content) - 1))
    if kind == "cut":
        del content[at : at + data.draw(st.integers(1, len(content)))]
    elif kind == "moved":
        content[at:at] = data.draw(st.binary(min_size=1, max_size=8))
    elif kind == "number":
        large = st.sampled_from([0, 1, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, len(content)])
        content[at : at + 4] = struct.pack("<I", data.draw(large))
    else:
        for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4)):
            content[place] = data.draw(st.integers(0, 255))
    damaged = path.with_name("damaged.bin")
    damaged.write_bytes(content)
    try:
        read = read_tensors(damaged)
    except (ArtefactError, SpecError) as err:
        str(err).encode()
        return
    for name, values in {"a": SIX.reshape(2, 3), "b": np.float32([1, 3])}.items():
        np.testing.assert_array_equal(read[name], values)
