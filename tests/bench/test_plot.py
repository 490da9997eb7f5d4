"""Charts of a bench, one for each part."""

from __future__ import annotations

import sys

import pytest
from tests.support.benches import make_report

from nimbed.bench import save_plots
from nimbed.errors import InputError, MissingExtraError


def test_each_part_has_its_picture_in_a_folder_that_is_made(tmp_path):
    pytest.importorskip("matplotlib")
    folder = tmp_path / "deep" / "charts"
    assert save_plots(make_report(), folder) == [folder / f"{part}.png" for part in ("latency", "documents", "start")]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in folder.iterdir())
    assert "matplotlib.pyplot" not in sys.modules


def test_what_cannot_be_written_is_named(tmp_path):
    pytest.importorskip("matplotlib")
    (tmp_path / "charts").write_text("a file")
    with pytest.raises(InputError, match=r"charts/latency\.png cannot be written"):
        save_plots(make_report(), tmp_path / "charts")


def test_without_matplotlib_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"nimbed\[plot\]"):
        save_plots(make_report(), tmp_path)
