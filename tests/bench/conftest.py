"""A contender that is nimbed's own."""

from __future__ import annotations

import pytest

from nimbed.evaluate import Setting


@pytest.fixture(scope="session")
def fake(tiny_folder) -> Setting:
    return Setting(model=str(tiny_folder), backend="fake", name="fake")
