"""A picture of a report: values on the left, differences with their intervals on the right."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nimbed.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from os import PathLike

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from nimbed.evaluate.report import Report

# Okabe and Ito's colours, which colour-blind readers can tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_ROW_INCHES = 0.34


def check_plot(path: str | PathLike[str]) -> None:
    """Raise now what :func:`save_plot` would raise after the evaluation: no matplotlib, or a name without .png."""
    if not str(path).lower().endswith(".png"):
        raise InputError(f"{path}: plots are PNG files; give a name that ends in .png")
    need_matplotlib()


def need_matplotlib() -> None:
    """Raise MissingExtraError, with the command that mends it, where matplotlib is not installed."""
    try:
        import matplotlib as _  # noqa: F401 (asked for, not used)
    except ImportError as err:
        raise MissingExtraError('plots need matplotlib: pip install "nimbed[plot]"') from err


def save_plot(report: Report, path: str | PathLike[str]) -> None:
    """Draw a report into a PNG file.

    Raises:
        MissingExtraError: matplotlib is not installed.
        InputError: the file cannot be written, or is no .png.
    """
    check_plot(path)
    figure = _draw(report)
    try:
        figure.savefig(path, dpi=150, format="png")
    except OSError as err:
        raise InputError(f"{path} cannot be written: {err}") from err


def _draw(report: Report) -> Figure:
    """A figure of its own; no window, no global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = list(dict.fromkeys((score.set, score.metric) for score in report.scores))
    compared = len(report.settings) > 1
    lines = len(rows) * max(1.0, 0.55 * len(report.settings))
    size = (11 if compared else 7, 1.5 + 0.22 * len(report.settings) + _ROW_INCHES * lines)
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 2 if compared else 1, sharey=True, squeeze=False)[0]
    _values(axes[0], report, rows)
    if compared:
        _differences(axes[1], report, rows)
    axes[0].set_yticks(range(len(rows)), [f"{name}  {metric}" for name, metric in rows])
    axes[0].set_ylim(len(rows) - 0.5, -0.5)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", frameon=False, fontsize=9)
    return figure


def _values(axes: Axes, report: Report, rows: list[tuple[str, str]]) -> None:
    for number, label in enumerate(report.settings):
        own = [score for score in report.scores if score.setting == label]
        places = [rows.index((s.set, s.metric)) + _shift(number, len(report.settings)) for s in own]
        axes.scatter(
            [s.value for s in own], places, color=COLOURS[number % 7], s=28, zorder=3, label=_named(report, label)
        )
    axes.set_xlim(min(0.0, *(score.value for score in report.scores), 0.0), 1.02)
    _style(axes, "value (higher is better)", len(rows))


def _differences(axes: Axes, report: Report, rows: list[tuple[str, str]]) -> None:
    axes.axvline(0, color="#555555", linewidth=1, zorder=1)
    for number, label in enumerate(report.settings[:-1]):
        for score in report.scores:
            found = score.against_reference
            if score.setting != label or found is None:
                continue
            place = rows.index((score.set, score.metric)) + _shift(number, len(report.settings))
            colour = COLOURS[number % 7]
            axes.plot((found.low, found.high), (place, place), color=colour, linewidth=2, solid_capstyle="round")
            axes.scatter([found.difference], [place], color=colour, s=28, zorder=3)
    _style(axes, "less the reference, 95 % interval", len(rows))


def _style(axes: Axes, title: str, rows: int) -> None:
    axes.set_title(title, fontsize=10, loc="left")
    axes.grid(axis="x", color="#dddddd", linewidth=0.8, zorder=0)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(labelsize=9)
    for row in range(0, rows, 2):
        axes.axhspan(row - 0.5, row + 0.5, color="#f5f5f5", zorder=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)


def _shift(number: int, settings: int) -> float:
    """Settings lie beside each other within a row of height 1."""
    return 0.55 * ((number + 0.5) / settings - 0.5)


def _named(report: Report, label: str) -> str:
    own = [speed for speed in report.speeds if speed.setting == label]
    rate = sum(speed.texts for speed in own) / max(sum(speed.seconds for speed in own), 1e-9)
    role = ", reference" if label == report.reference and len(report.settings) > 1 else ""
    return f"{label} ({rate:.0f} texts/s{role})"
