"""The picture of a report: a PNG file, refused early where it can't be drawn or written."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
from tests.support.evaluations import make_report

from nimbed.errors import InputError, MissingExtraError
from nimbed.evaluate import save_plot
from nimbed.evaluate.plot import check_plot

if TYPE_CHECKING:
    from pathlib import Path


def width(path: Path) -> int:
    """Of a PNG, in pixels."""
    return int.from_bytes(path.read_bytes()[16:20], "big")


def test_the_plot_is_a_picture_without_global_state(tmp_path):
    pytest.importorskip("matplotlib")
    save_plot(make_report(), tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    assert "matplotlib.pyplot" not in sys.modules


def test_one_setting_alone_has_no_column_of_differences(tmp_path):
    pytest.importorskip("matplotlib")
    for settings in (("fp32",), ("small", "fp32")):
        save_plot(make_report(settings=settings), tmp_path / f"{len(settings)}.png")
    assert (width(tmp_path / "1.png"), width(tmp_path / "2.png")) == (7 * 150, 11 * 150)


def test_what_cannot_be_written_is_named(tmp_path):
    pytest.importorskip("matplotlib")
    with pytest.raises(InputError, match=r"nowhere/plot\.png cannot be written"):
        save_plot(make_report(), tmp_path / "nowhere" / "plot.png")
    with pytest.raises(InputError, match=r"ends in \.png"):
        save_plot(make_report(), tmp_path / "plot.svg")


def test_the_check_before_the_run_takes_any_spelling_of_png():
    pytest.importorskip("matplotlib")
    check_plot("charts/Report.PNG")
    with pytest.raises(InputError, match=r"report\.pdf: plots are PNG files"):
        check_plot("report.pdf")


def test_without_matplotlib_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for refused in (check_plot, lambda path: save_plot(make_report(), path)):
        with pytest.raises(MissingExtraError, match=r"nimbed\[plot\]"):
            refused(tmp_path / "plot.png")
