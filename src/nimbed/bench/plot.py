"""Charts of a bench, one PNG file for each part."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nimbed._files.user_paths import expanded
from nimbed.bench.report import LESS_IS_BETTER
from nimbed.errors import InputError
from nimbed.evaluate.plot import COLOURS, need_matplotlib

if TYPE_CHECKING:
    from os import PathLike
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

    from nimbed.bench.report import BenchReport, Figure

_BAR_INCHES = 0.22


def save_plots(report: BenchReport, folder: str | PathLike[str]) -> list[Path]:
    """Draw each part into ``<folder>/<part>.png``; bars are medians, lines the range of the rounds.

    Raises:
        MissingExtraError: matplotlib is not installed.
        InputError: a file cannot be written.
    """
    need_matplotlib()
    paths = []
    for part in dict.fromkeys(figure.part for figure in report.figures):
        paths.append(expanded(folder) / f"{part}.png")
        try:
            paths[-1].parent.mkdir(parents=True, exist_ok=True)
            _draw(report, part).savefig(paths[-1], dpi=150, format="png")
        except OSError as err:
            raise InputError(f"{paths[-1]} cannot be written: {err}") from err
    return paths


def _draw(report: BenchReport, part: str) -> Drawing:
    """A figure of its own; no window, no global state. Each unit has its own axes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Drawing

    own = [figure for figure in report.figures if figure.part == part]
    units = list(dict.fromkeys(figure.unit for figure in own))
    cases = {unit: list(dict.fromkeys(f.case for f in own if f.unit == unit)) for unit in units}
    bars = [len(cases[unit]) * (len(report.contenders) + 1) for unit in units]
    drawing = Drawing(figsize=(9, 1.4 + 0.4 * len(units) + _BAR_INCHES * sum(bars)), layout="constrained")
    FigureCanvasAgg(drawing)
    axes = drawing.subplots(len(units), 1, squeeze=False, height_ratios=bars)[:, 0]
    for place, unit in zip(axes, units, strict=True):
        _bars(place, report, [figure for figure in own if figure.unit == unit], cases[unit])
        better = "less" if unit in LESS_IS_BETTER else "more"
        place.set_title(f"{part}: {unit}, {better} is better", fontsize=10, loc="left")
    drawing.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", frameon=False, fontsize=9, ncols=3)
    return drawing


def _bars(axes: Axes, report: BenchReport, figures: list[Figure], cases: list[str]) -> None:
    height = 1 / (len(report.contenders) + 1)
    for number, label in enumerate(report.contenders):
        own = [figure for figure in figures if figure.contender == label]
        places = [cases.index(f.case) + (number + 0.5) * height - 0.5 + height / 2 for f in own]
        medians = [f.median for f in own]
        around = [[f.median - min(f.values) for f in own], [max(f.values) - f.median for f in own]]
        axes.barh(places, medians, height, xerr=around, color=COLOURS[number % len(COLOURS)], label=label,
                  error_kw={"elinewidth": 1, "ecolor": "#333333"})  # fmt: skip
        for place, figure in zip(places, own, strict=True):
            axes.annotate(f"{figure.median:.3g}", (max(figure.values), place), va="center", fontsize=7, xytext=(4, 0),
                          textcoords="offset points")  # fmt: skip
    axes.set_yticks(range(len(cases)), cases)
    axes.set_ylim(len(cases) - 0.5, -0.5)
    axes.grid(axis="x", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0, labelsize=9)
    axes.margins(x=0.08)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
