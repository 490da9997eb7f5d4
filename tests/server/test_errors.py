"""What a client is told of an error of the encoder's."""

from __future__ import annotations

import pytest

from nimbed import errors
from nimbed.server.errors import STATUS, ApiError, of_the_core, retry_later


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (errors.InputError("a secret"), "invalid"),
        (errors.InputTypeError("a secret"), "invalid"),
        (errors.TruncationError("a secret"), "invalid"),
        (errors.ClosedError("a secret"), "unavailable"),
        (errors.BackendError("a secret"), "unavailable"),
        (errors.OutOfMemoryError("a secret"), "unavailable"),
        (errors.EncodeTimeoutError("a secret"), "unavailable"),
        (MemoryError("a secret"), "unavailable"),
        (errors.ArtefactError("a secret"), "internal"),
        (KeyError("a secret"), "internal"),
    ],
)
def test_the_core_s_own_words_are_kept_back(error, kind):
    found = of_the_core(error)
    assert found.kind == kind
    assert "secret" not in found.message


def test_retry_after():
    assert retry_later("overloaded", "full", seconds=3).headers == [(b"retry-after", b"3")]


def test_every_kind_has_a_status():
    assert {status for status in STATUS.values() if status >= 500} == {500, 503}
    assert ApiError("empty", "m", param="p").param == "p"
