"""TorchScript is code: which files of it may run.

A manifest cannot tell who wrote it, so nimbed keeps the sha256 of every TorchScript file that it writes in its home on
this machine. Any other file needs the user's permission.
"""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

from nimbed._files.digests import sha256_of
from nimbed._loading.artefact import home
from nimbed.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from nimbed._loading.hub import Source


def is_torchscript(path: Path) -> bool:
    """Whether a file is a TorchScript archive; one of pickled weights alone is a zip file too, but has no code."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.partition("/")[2].startswith("code/") for name in archive.namelist())


def remember(path: Path) -> None:
    """Note that nimbed wrote this file."""
    record = _record(path)
    record.parent.mkdir(parents=True, exist_ok=True)
    record.touch()


def check_allowed(path: Path, source: Source) -> None:
    """Refuse a file that nimbed did not write on this machine, unless the user allows it.

    Raises:
        InputError: it may not run.
    """
    if not source.allow_code and not _record(path).is_file():
        raise InputError(
            f"{path} is TorchScript, which is code, and nimbed did not write it on this machine. If you trust whoever "
            "made it, allow it with source=Source(allow_code=True); otherwise build the artefact here from the model's "
            "weights"
        )


def _record(path: Path) -> Path:
    return home() / "torchscript" / sha256_of(path)
