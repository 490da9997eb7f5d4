"""What a wheel holds and asks for, with the native engine and without."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import tomllib
from packaging.requirements import Requirement

from nimbed import _doctor

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_base_install_is_small():
    here = {"platform_machine": "x86_64", "sys_platform": "linux"}
    asked = [Requirement(text) for text in PROJECT["dependencies"]]
    base = {one.name for one in asked if one.marker is None or one.marker.evaluate(here)}
    assert base == {"filelock", "huggingface-hub", "numpy", "platformdirs", "tenacity", "tokenizers", "tqdm"}
    for other in ({"platform_machine": "aarch64"}, {"sys_platform": "win32"}):
        assert {one.name for one in asked if one.marker and one.marker.evaluate(here | other)} == {"openvino"}


def test_torch_is_pinned_for_those_who_build_here():
    constraints = (ROOT / "constraints.txt").read_text().splitlines()
    assert "torch==2.13.0" in constraints
    assert not [line for line in constraints if line.startswith(("torchvision", "nvidia"))]


def test_all_is_all_that_is_used_at_run_time():
    extras = PROJECT["optional-dependencies"]
    assert extras["all"] == [
        "nimbed[export,haystack,lance,langchain,llama-index,mteb,openvino,otel,parquet,plot,prometheus,quantize,redis,serve,torch]"
    ]


def test_the_doctor_knows_the_extras_and_what_they_bring():
    extras = PROJECT["optional-dependencies"]
    assert _doctor._EXTRAS.keys() == extras.keys() - {"all", "test", "dev"}
    for name, packages in _doctor._EXTRAS.items():
        if not any(text.startswith("nimbed[") for text in extras[name]):
            assert set(packages) <= {Requirement(text).name for text in extras[name]}


# A wheel for a user who wants it pure, for one whose compiler fails, and for one who must have it all.
WAYS = {
    "pure": {"NIMBED_NO_NATIVE": "1"},
    "broken compiler": {"CXX": "/bin/false"},
    "native": {"NIMBED_NO_NATIVE": "0"},
}


def build(what: str, folder: Path, environment: dict[str, str], **settings: str) -> subprocess.CompletedProcess[str]:
    script = f"from scikit_build_core.build import {what} as b; print(b({str(folder)!r}, {settings!r}))"
    outer = {name: value for name, value in os.environ.items() if name != "NIMBED_NO_NATIVE"}
    command = [sys.executable, "-c", script]
    return subprocess.run(
        command, cwd=ROOT, env=outer | environment, capture_output=True, text=True, check=False, timeout=600
    )


@pytest.fixture(scope="module", params=WAYS)
def wheel(request, tmp_path_factory):
    settings = {}
    if request.param == "native":
        if shutil.which(os.environ.get("CXX", "c++")) is None:
            pytest.skip("no C++ compiler")
        settings = {"build-dir": "build/native/{wheel_tag}"}  # make's own: what it compiled is not compiled again
    folder = tmp_path_factory.mktemp("wheel")
    done = build("build_wheel", folder, WAYS[request.param], **settings)
    assert done.returncode == 0, done.stdout + done.stderr
    return zipfile.ZipFile(folder / done.stdout.split()[-1])


def is_native(wheel: zipfile.ZipFile) -> bool:
    return not wheel.filename.endswith("-py3-none-any.whl")


def test_the_way_it_is_built_decides_what_is_in_it(wheel, request):
    (way,) = [way for way in WAYS if f"[{way}]" in request.node.name]
    binaries = [name for name in wheel.namelist() if name.endswith((".so", ".pyd"))]
    assert is_native(wheel) == (way == "native")
    assert [name.partition(".")[0] for name in binaries] == ["nimbed/_native"] * is_native(wheel)
    assert not [name for name in binaries if b".symtab" in wheel.read(name)], "the binary is not stripped"


def test_the_wheel_ships_types_and_texts(wheel):
    files = set(wheel.namelist())
    assert {
        "nimbed/py.typed",
        "nimbed/quantization/data/calibration.jsonl.gz",
        "nimbed/quantization/data/ATTRIBUTION.md",
        *(f"nimbed/server/ui/{name}" for name in ("page.html", "page.css", "page.js", "icon.svg")),
    } <= files
    assert any(name.endswith("licenses/LICENSE") for name in files)
    assert not [name for name in files if name.startswith(("tests", "examples", "benchmarks"))]
    assert not [name for name in files if name.endswith((".cpp", ".h"))]
    assert sum(info.file_size for info in wheel.infolist()) < (5_000_000 if is_native(wheel) else 1_800_000)


def test_the_wheel_has_the_command(wheel):
    entry = next(name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    assert "nimbed = nimbed.cli:main" in wheel.read(entry).decode()


def test_who_must_have_the_native_engine_hears_that_it_does_not_compile(tmp_path):
    done = build("build_wheel", tmp_path, {"CXX": "/bin/false", "NIMBED_NO_NATIVE": "0"})
    assert done.returncode != 0
    assert not list(tmp_path.iterdir())


def test_the_source_distribution_has_what_a_wheel_is_built_from(tmp_path):
    done = build("build_sdist", tmp_path, {})
    assert done.returncode == 0, done.stdout + done.stderr
    with tarfile.open(tmp_path / done.stdout.split()[-1]) as archive:
        files = {name.partition("/")[2] for name in archive.getnames()}
    sources = {str(path.relative_to(ROOT)) for path in (ROOT / "src" / "nimbed" / "native").iterdir()}
    assert {"CMakeLists.txt", "Makefile", "constraints.txt", "tests/conftest.py"} | sources <= files
    assert not [name for name in files if "__pycache__" in name]
