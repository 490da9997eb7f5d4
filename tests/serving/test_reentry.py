"""A call within a call is recognized by the modules whose frames lie beneath it."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from nimbed._serving.reentry import INNER, within_a_call


@pytest.mark.parametrize("module", sorted(INNER))
def test_the_modules_that_are_looked_for_are_there(module):
    assert find_spec(module) is not None


def test_only_what_lies_beneath_another_frame_counts():
    scope = {"__name__": "nimbed._serving.scheduler", "within": within_a_call}
    exec("def runs(hook): return hook()\ndef asks(): return within()", scope)
    assert scope["runs"](lambda: within_a_call())  # noqa: PLW0108 (a frame of its own)
    assert not scope["asks"]()
    assert not within_a_call()
