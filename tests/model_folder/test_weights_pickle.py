"""Pickles of weights are read as data; whatever else one holds is refused by name, and nothing is run or imported."""

from __future__ import annotations

import os
import pickle
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.torch_files import DICTIONARY, TENSOR, number, numbers, state, storage, tensor, text

from nimbed._model_folder.weights_pickle import _STEPS, ForeignPickleError, Storage, TensorRecord, read_records

HELD = storage("0", 6)
SIX = tensor(HELD, (6,), (1,))
GOOD = state(a=tensor(HELD, (2, 3), (3, 1)), b=tensor(HELD, (), (), 5))


def test_tensors_by_name():
    held = Storage("Float", "0", 6)
    assert read_records(GOOD) == {"a": TensorRecord(held, 0, (2, 3), (3, 1)), "b": TensorRecord(held, 5, (), ())}


def test_a_parameter_is_its_tensor():
    parameter = b"ctorch._utils\n_rebuild_parameter\n(" + tensor(HELD, (6,), (1,)) + b"\x88" + DICTIONARY + b")RtR"
    assert read_records(state(p=parameter))["p"].shape == (6,)


def test_versions_of_modules_beside_the_items_are_passed_over():
    said = b"}" + text("_metadata") + DICTIONARY + b")R" + text("") + b"}" + text("version") + b"K\x01sssb."
    assert list(read_records(GOOD[:-1] + said)) == ["a", "b"]


class Runs:
    def __init__(self, function, *given):
        self.made = function, given

    def __reduce__(self):
        return self.made


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("runs", [Runs(os.system, "touch /tmp/nimbed-ran"), Runs(eval, "1"), Runs(print)])
def test_code_is_refused_in_every_protocol(runs, protocol):
    with pytest.raises(ForeignPickleError):
        read_records(pickle.dumps({"a": runs}, protocol))


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (state(a=b"cos\nsystem\n(" + text("true") + b"tR"), r"names 'os\.system', which might run code"),
        (state(a=b"ctorch\nload\n"), r"torch\.load"),
        (state(a=b"ctorch\nComplexFloatStorage\n"), r"torch\.ComplexFloatStorage"),
        (state(a=b"ctorch.storage\nUntypedStorage\n"), r"UntypedStorage"),
        (state(a=b"c__torch__\nModel\n"), r"__torch__\.Model"),
        (state(a=b"(ios\nsystem\n"), "operation b'i'"),
        (state(a=b"\x82\x01"), "operation b'\\\\x82'"),
        (state(a=b"\x93"), "operation"),
        (state(a=b"\x92"), "operation"),
        (state(a=b"\x8b\xff\xff\xff\x7f"), "operation b'\\\\x8b'"),
        (state(a=b"I1\n"), "operation b'I'"),
        (state(a=b"Pid\n"), "operation b'P'"),
        (state(a=text("no storage") + b"Q"), "something else than a storage"),
        (state(a=b")Q"), "something else than a storage"),
        (state(a=b"(" + text("module") + TENSOR + text("0") + text("cpu") + number(1) + b"tQ"), "than a storage"),
        (state(a=b"(" + text("storage") + TENSOR + text("0") + text("cpu") + number(1) + b"tQ"), "than a storage"),
        (state(a=HELD.replace(number(6), b"\x88")), "than a storage"),
        (state(a=HELD), "'a' is a Storage, not a tensor"),
        (state(a=number(3)), "'a' is a int, not a tensor"),
        (state(a=b"}"), "'a' is a dictionary"),
        (state(a=TENSOR), "'a' is a Name"),
        (state(), "it holds a dictionary, not tensors"),
        (b"\x80\x02" + tensor(HELD, (6,), (1,)) + b".", "it holds a TensorRecord"),
        (b"\x80\x04N.", "protocol 4"),
        (state(a=TENSOR + b")R"), "a tensor is made of"),
        (state(a=TENSOR + HELD + b"\x85R"), "a tensor is described"),
        (state(a=tensor(HELD, (6,), (1, 1))), "a tensor is described"),
        (state(a=tensor(HELD, (6,), (1,)).replace(numbers((6,)), text("6"), 1)), "a tensor is described"),
        (state(a=SIX[:-2] + b"}" + text("neg") + b"\x88stR"), "a tensor is described"),
        (state(a=b"))R"), "a tuple is made of"),
        (state(a=DICTIONARY + text("x") + b"R"), "an empty dictionary is made of"),
        (state(a=b"ctorch\nFloatStorage\n)R"), "Float is made of"),
        (b"\x80\x02}" + number(1) + b"Ns.", "a name that is a int"),
        (b"\x80\x02}" + b"))\x86" + b"Ns.", "a name that is a tuple"),
        (b"\x80\x02N}b.", "a state of a NoneType"),
    ],
)  # fmt: skip
def test_what_is_no_weights_is_named(code, says):
    with pytest.raises(ForeignPickleError, match=says):
        read_records(code)


@pytest.mark.parametrize(
    "code",
    [b"", b".", b"\x80\x02", GOOD[:-1], b"\x80\x02h\x05.", b"\x80\x02j\xff\xff\xff\xff.", b"\x80\x02q\x00.",
     b"\x80\x02t.", b"\x80\x02u.", b"\x80\x02X\xff\xff\xff\xffa.", b"\x80\x02X\x01\x00\x00\x00\xff.", b"\x80\x02ca",
     b"\x80\x02(\x85.", b"\x80\x02c\xff\n\xff\n.", b"\x80\x02N(Nu.", b"\x80\x02}(Nu.", b"\x80\x02}Ns.", b"\x80\x02NR.",
     b"\x80\x02Q.", b"\x80\x02b."],
)  # fmt: skip
def test_what_is_damaged_is_said_so(code):
    with pytest.raises(ValueError, match=r"."):
        read_records(code)


def deep(count: int) -> bytes:
    return b"\x80\x02)" + b"\x85" * count + b"."


def laughs(count: int) -> bytes:
    """A tuple of two of one of two ...: who walks it needs 2 ** count steps."""
    return b"\x80\x02}" + b")" + b"".join(b"q\x00h\x00\x86" for _ in range(count)) + b"Ns."


ENDLESS = {
    "deep": deep(100_000),
    "dictionaries": b"\x80\x02" + b"}" * 100_000 + b".",
    "marks": b"\x80\x02" + b"(" * 1_100_000,
    "laughs as a value": b"\x80\x02}" + text("a") + b")" + b"q\x00h\x00\x86" * 60 + b"s.",
    "laughs as a name": laughs(60),
    "laughs as a storage": b"\x80\x02)" + b"q\x00h\x00\x86" * 60 + b"Q.",
    "itself": b"\x80\x02}q\x00" + text("a") + b"h\x00s.",
    "memo": b"\x80\x02N" + b"".join(b"r" + struct.pack("<I", 2**32 - 1 - n) for n in range(10_000)) + b".",
    "long": bytes(5 << 20),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_time_and_memory_have_an_end(name):
    import tracemalloc

    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"."):
            read_records(ENDLESS[name])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 50 << 20


OPERATIONS = st.one_of(
    st.sampled_from([*_STEPS, b"i", b"\x82", b"\x8b", b"P", b"]", b"a", b"."]),
    st.sampled_from([text("a"), number(-1), number(2**70), TENSOR, DICTIONARY, HELD, SIX, b"q\0", b"h\0"]),
    st.binary(max_size=3),
)  # fmt: skip


@settings(max_examples=600, deadline=None)
@given(code=st.lists(OPERATIONS, max_size=30).map(b"".join), tail=st.sampled_from([b".", b"", b"s.", b"u."]))
def test_any_operations_end_in_tensors_or_a_refusal(code, tail):
    check(b"\x80\x02" + code + tail)


@settings(max_examples=600, deadline=None)
@given(data=st.data())
def test_a_damaged_pickle_ends_in_tensors_or_a_refusal(data):
    code = bytearray(GOOD)
    for at in data.draw(st.lists(st.integers(0, len(code) - 1), min_size=1, max_size=4)):
        code[at] = data.draw(st.integers(0, 255))
    check(bytes(code[: data.draw(st.integers(0, len(code)))] if data.draw(st.booleans()) else code))


def check(code: bytes) -> None:
    try:
        records = read_records(code)
    except ValueError as err:
        str(err).encode()
        return
    assert records
    assert all(type(record) is TensorRecord for record in records.values())
