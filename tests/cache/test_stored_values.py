"""What a shared tier stores is known again, byte for byte, and nothing else is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimbed._cache.lru import Entry
from nimbed._cache.stored_values import Seal

DIM = 4


def entry(value: float = 1.0, cut: int = 0) -> Entry:
    return Entry(np.full(DIM, value, np.float32).tobytes(), cut)


SEALS = {"checked": Seal(DIM), "signed": Seal(DIM, b"a secret of some length")}
seals = pytest.mark.parametrize("seal", SEALS.values(), ids=SEALS)


@seals
@given(value=st.floats(width=32, allow_nan=False, allow_infinity=False), cut=st.integers(0, 2**31 - 1), key=st.binary())
def test_pack_and_unpack(seal, value, cut, key):
    one = entry(value, cut)
    assert seal.unpack(key, seal.pack(key, one)) == one


@seals
@given(data=st.data())
def test_any_change_of_a_stored_value_is_noticed(seal, data):
    packed = bytearray(seal.pack(b"k", entry()))
    at = data.draw(st.integers(0, len(packed) - 1))
    packed[at] ^= data.draw(st.integers(1, 255))
    assert seal.unpack(b"k", bytes(packed)) is None


SEAL = Seal(DIM)
WHOLE = SEAL.pack(b"k", entry())


@pytest.mark.parametrize(
    "value",
    [None, b"", b"garbage", "text", 7, bytearray(WHOLE), SEAL.pack(b"x", entry()), WHOLE[:-1], WHOLE + b"x"],
)
def test_what_is_not_exactly_this_keys_value_is_no_value(value):
    assert SEAL.unpack(b"k", value) is None


def test_another_width_what_is_not_finite_and_an_impossible_count_are_damage():
    assert Seal(DIM + 1).unpack(b"k", SEAL.pack(b"k", entry())) is None
    assert SEAL.unpack(b"k", SEAL.pack(b"k", entry(float("nan")))) is None
    assert SEAL.unpack(b"k", SEAL.pack(b"k", entry(cut=2**32 - 1))) is None


def test_without_the_key_nobody_makes_a_value():
    ours, others = Seal(DIM, b"our secret secret"), Seal(DIM, b"another's secret")
    assert ours.unpack(b"k", ours.pack(b"k", entry())) == entry()
    assert [ours.unpack(b"k", seal.pack(b"k", entry())) for seal in (SEAL, others)] == [None, None]
    assert SEAL.unpack(b"k", ours.pack(b"k", entry())) is None


def test_the_bytes_of_a_value_stay_those_that_stores_hold():
    one = Entry(np.float32([1, -2, 0.5, 3]).tobytes(), 700)
    assert SEAL.pack(b"key", one).hex() == ("6e6d62322063726304000000bc0200000000803f000000c00000003f00004040e13dd66a")
    signed = Seal(DIM, b"a secret of some length").pack(b"key", one)
    assert signed[:8] == b"nmb2 mac"
    assert signed[-16:].hex() == "abb2a78eb751ef21b25f703ddef4ba3a"


@seals
@given(st.binary(max_size=60))
def test_bytes_of_a_stranger_are_no_value(seal, value):
    assert seal.unpack(b"k", value) is None


def test_a_secret_of_any_length_is_all_of_it():
    long = b"x" * 64
    for secret, other in ((long, long + b"y"), (b"s" * 16, b"s" * 17)):
        assert Seal(DIM, secret).unpack(b"k", Seal(DIM, other).pack(b"k", entry())) is None
        assert Seal(DIM, secret).unpack(b"k", Seal(DIM, secret).pack(b"k", entry())) == entry()
