"""The Pythons that pyproject names, as far as they can be had here."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import tomllib

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def named_versions() -> list[str]:
    """The Pythons of pyproject's classifiers, the oldest first."""
    found = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["project"]["classifiers"]))
    return sorted(found, key=lambda version: int(version.partition(".")[2]))


def interpreter(version: str, uv: str | Path) -> str | None:
    """A Python of that version: on the path, pyenv's, or one that uv has or fetches; None, and a line, without one."""
    places = [shutil.which(f"python{version}"), *map(str, Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))]
    for place in filter(None, places):
        if _said(place, "-c", "import sys, venv; print('%d.%d' % sys.version_info[:2])") == version:
            return place
    for step in ("find", "install", "find"):
        found = _said(str(uv), "--system-certs", "python", step, version)
        if step == "find" and found is not None:
            return found
    print(f"skipped: Python {version} (neither on the path, nor pyenv's, nor to be had from uv)", flush=True)
    return None


def _said(*command: str) -> str | None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    return done.stdout.strip() if done.returncode == 0 else None
