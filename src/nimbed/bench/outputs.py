"""The files that a command which measures was asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from nimbed._files.user_paths import write_whole
from nimbed.errors import InputError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from pathlib import Path

    from nimbed.bench import BenchReport
    from nimbed.evaluate import Report

AnyReport = TypeVar("AnyReport", "BenchReport", "Report")


def check_outputs(*paths: Path | None) -> None:
    """Raise where one has no folder, before hours are spent on what would be written."""
    for path in filter(None, paths):
        if not path.parent.is_dir():
            raise InputError(f"{path} cannot be written: there is no folder {path.parent}")


def write_files(report: AnyReport, chosen: argparse.Namespace, draw: Callable[[AnyReport, Path], object]) -> None:
    """Tables, figures and charts to where the command's options say."""
    for path, text in ((chosen.json, report.to_json), (chosen.markdown, report.to_markdown)):
        if path:
            _write_text(path, text())
    if chosen.plot:
        draw(report, chosen.plot)


def _write_text(path: Path, text: str) -> None:
    try:
        write_whole(path, text)
    except OSError as err:
        raise InputError(f"{path} cannot be written: {err}") from err
