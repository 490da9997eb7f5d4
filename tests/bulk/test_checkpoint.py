"""What a writer has acknowledged."""

from __future__ import annotations

import pytest

from nimbed.bulk.checkpoint import Checkpoint, batches
from nimbed.errors import FingerprintError, InputError


def test_what_was_acknowledged_is_passed_over(tmp_path):
    path = tmp_path / "state.json"
    state = Checkpoint(path, "f")
    assert list(state.rest("abc", str)) == ["a", "b", "c"]
    state.acknowledge("ab")
    state.acknowledge("c")
    again = Checkpoint(path, "f")
    assert again.count == 3
    assert list(again.rest("abcde", str)) == ["d", "e"]
    for others in ("abXde", "ab", "cab"):
        with pytest.raises(InputError, match="says that 3 items were written"):
            Checkpoint(path, "f").rest(others, str)
    with pytest.raises(FingerprintError, match="fingerprint f, now it is g"):
        Checkpoint(path, "g")


@pytest.mark.parametrize("text", ["no JSON", "{}", '{"version": 9}', '{"version": 1, "fingerprint": "f", "count": -1}'])
def test_a_damaged_file_is_named(text, tmp_path):
    (tmp_path / "state.json").write_text(text)
    with pytest.raises(InputError, match=r"state\.json.*remove it to begin anew"):
        Checkpoint(tmp_path / "state.json", "f")


def test_without_a_file_nothing_is_kept(tmp_path):
    state = Checkpoint(None, "f")
    state.acknowledge("ab")
    assert state.count == 2


def test_batches():
    assert list(batches("abcde", 2)) == [["a", "b"], ["c", "d"], ["e"]]
