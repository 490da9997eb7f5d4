"""make test-oldest, make test-newest: the fast part of the tests at either end of what pyproject allows.

Without torch, which is pinned (constraints.txt), and without what brings it. The environment is built anew each time.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys

from interpreters import PROJECT, ROOT, interpreter, named_versions

WORK = ROOT / "build" / "versions"
# The end of the versions at which to look for a Python, and uv's name for the same end of the packages'.
ENDS = {"oldest": (1, "lowest-direct"), "newest": (-1, "highest")}
EXTRAS = "haystack,langchain,llama-index,openvino,otel,parquet,prometheus,redis"
TOOLS = {"hypothesis", "opentelemetry-sdk", "psutil", "pytest", "pytest-asyncio", "pytest-xdist"}
TESTS = [
    *("tests/adapters", "tests/cache", "tests/files", "tests/loading", "tests/serving"),
    *("tests/text", "tests/test_observability.py", "tests/test_spec.py"),
]
# They compare with packages that bring torch, or with langchain-classic and datasets.
LEFT_OUT = [
    "text/test_checks.py",
    "adapters/test_advice.py",
    "adapters/test_langchain.py",
    "adapters/test_migration.py",
]
NEED_TORCH = "not reranker_reads"


def run(*command: object, **more: str) -> None:
    print("$", *(str(word) for word in command), flush=True)
    subprocess.run([str(word) for word in command], check=True, cwd=ROOT, env={**os.environ, **more})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("end", choices=ENDS)
    end = parser.parse_args().end
    step, resolution = ENDS[end]
    python = next(filter(None, map(interpreter, named_versions()[::step])))
    folder, tools = WORK / end, WORK / "tools"
    shutil.rmtree(folder, ignore_errors=True)
    if not (tools / "bin" / "uv").exists():
        run(sys.executable, "-m", "venv", tools)
        run(tools / "bin" / "python", "-m", "pip", "install", "-q", "uv")
    run(python, "-m", "venv", "--without-pip", folder)
    wanted = [one for one in PROJECT["project"]["optional-dependencies"]["test"] if one.partition(">")[0] in TOOLS]
    native = "0" if shutil.which(os.environ.get("CXX", "c++")) else "1"
    into = ("--python", folder / "bin" / "python", "--resolution", resolution)
    uv = [tools / "bin" / "uv", "--system-certs", "pip"]
    run(*uv, "install", "-q", *into, f"{ROOT}[{EXTRAS}]", *wanted, NIMBED_NO_NATIVE=native)
    run(*uv, "list", "--python", folder / "bin" / "python")
    tests = [folder / "bin" / "python", "-m", "pytest", "-q", "-n", os.environ.get("JOBS", "2"), "--dist", "loadfile"]
    ignored = [f"--ignore=tests/{name}" for name in LEFT_OUT]
    # Others' warnings are of versions that their authors did not try together.
    run(*tests, "-rfE", "-W", "default", "-k", NEED_TORCH, *TESTS, *ignored)


if __name__ == "__main__":
    main()
