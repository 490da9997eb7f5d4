"""What the package tokenizers raises comes out as an error of nimbed's own; all else as it is."""

from __future__ import annotations

import pytest

from nimbed._text.tokenizer_errors import TOKENIZING
from nimbed.errors import InputError, SpecError


class PanicException(BaseException):
    """As Rust's panics come out."""


PanicException.__module__ = "pyo3_runtime"


@pytest.mark.parametrize("raised", [Exception("bad vocabulary"), OverflowError("id -1"), PanicException("index 7")])
def test_its_own_are_told_as_a_fault_of_the_file(raised):
    with pytest.raises(SpecError, match=f"tokenizer.json .*{raised.args[0]}; fetch it again") as caught, TOKENIZING:
        raise raised
    assert caught.value.__cause__ is raised


@pytest.mark.parametrize("raised", [TypeError("not a string"), InputError("item 3"), KeyboardInterrupt()])
def test_all_others_pass(raised):
    with pytest.raises(type(raised)) as caught, TOKENIZING:
        raise raised
    assert caught.value is raised
    assert not isinstance(caught.value, SpecError)


def test_the_packages_own_exception():
    import tokenizers

    with pytest.raises(SpecError, match=r"tokenizer\.json"), TOKENIZING:
        tokenizers.Tokenizer.from_str("{}")
