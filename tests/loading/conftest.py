"""A folder for artefacts that tests write by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder of the test's own, with nothing else in it."""
    folder = tmp_path / "place"
    folder.mkdir()
    return folder
