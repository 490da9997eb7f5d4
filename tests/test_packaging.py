"""What a wheel holds and asks for."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import tomllib

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def names(requirements: list[str]) -> set[str]:
    import re

    return {re.match(r"[\w-]+", r).group() for r in requirements}


def test_the_base_install_is_small():
    base = names(PROJECT["dependencies"])
    assert not base & {"torch", "transformers", "optimum-intel", "nncf", "sentence-transformers"}
    assert len(base) <= 8


def test_torch_is_pinned_for_those_who_build_here():
    constraints = (ROOT / "constraints.txt").read_text().splitlines()
    assert "torch==2.13.0" in constraints
    assert not [line for line in constraints if line.startswith(("torchvision", "nvidia"))]


def test_all_is_all_that_is_used_at_run_time():
    extras = PROJECT["optional-dependencies"]
    assert extras["all"] == [
        "nimbed[export,haystack,langchain,llama-index,mteb,otel,parquet,plot,prometheus,quantize,redis,torch]"
    ]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-c", f"from hatchling.build import build_wheel; print(build_wheel({str(folder)!r}))"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return zipfile.ZipFile(folder / done.stdout.split()[-1])


def test_the_wheel_ships_types_and_texts(wheel):
    files = set(wheel.namelist())
    assert {
        "nimbed/py.typed",
        "nimbed/quantization/data/calibration.jsonl.gz",
        "nimbed/quantization/data/ATTRIBUTION.md",
    } <= files
    assert any(name.endswith("licenses/LICENSE") for name in files)
    assert not [name for name in files if name.startswith(("tests", "examples", "benchmarks"))]
    assert sum(info.file_size for info in wheel.infolist()) < 1_000_000


def test_the_wheel_has_the_command(wheel):
    entry = next(name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    assert "nimbed = nimbed.cli:main" in wheel.read(entry).decode()
