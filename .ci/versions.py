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
EXTRAS = "haystack,lance,langchain,llama-index,openvino,otel,parquet,plot,prometheus,quantize,redis,serve"
TOOLS = {"httpx", "hypothesis", "opentelemetry-sdk", "psutil", "pytest", "pytest-asyncio", "pytest-xdist"}
TESTS = [
    *("tests/adapters", "tests/bulk", "tests/cache", "tests/files", "tests/loading", "tests/server", "tests/serving"),
    *("tests/text", "tests/test_observability.py", "tests/test_spec.py"),
]
# They need torch, packages that bring it, or langchain-classic and datasets.
LEFT_OUT = [
    "text/test_checks.py",
    "adapters/test_advice.py",
    "adapters/test_langchain.py",
    "adapters/test_migration.py",
]
# So do these, or Chroma, and FAISS through langchain-community.
THESE = "not reranker_reads and not chroma and not faiss_index"


def run(*command: object, **more: str) -> None:
    print("$", *(str(word) for word in command), flush=True)
    subprocess.run([str(word) for word in command], check=True, cwd=ROOT, env={**os.environ, **more})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("end", choices=ENDS)
    end = parser.parse_args().end
    step, resolution = ENDS[end]
    folder, tools = WORK / end, WORK / "tools"
    shutil.rmtree(folder, ignore_errors=True)
    if not (tools / "bin" / "uv").exists():
        run(sys.executable, "-m", "venv", tools)
        run(tools / "bin" / "python", "-m", "pip", "install", "-q", "uv")
    found = (interpreter(version, tools / "bin" / "uv") for version in named_versions()[::step])
    run(next(filter(None, found)), "-m", "venv", "--without-pip", folder)
    wanted = [one for one in PROJECT["project"]["optional-dependencies"]["test"] if one.partition(">")[0] in TOOLS]
    native = "0" if shutil.which(os.environ.get("CXX", "c++")) else "1"
    into = ("--python", folder / "bin" / "python", "--resolution", resolution)
    uv = [tools / "bin" / "uv", "--system-certs", "pip"]
    # uv would take a wheel that it built of an older checkout.
    run(*uv, "install", "-q", *into, "--refresh-package", "nimbed", ROOT, NIMBED_NO_NATIVE=native)
    if native == "0":
        run(folder / "bin" / "python", ROOT / ".ci" / "try_install.py")
    run(*uv, "install", "-q", *into, f"{ROOT}[{EXTRAS}]", *wanted, NIMBED_NO_NATIVE=native)
    run(*uv, "list", "--python", folder / "bin" / "python")
    tests = [folder / "bin" / "python", "-m", "pytest", "-q", "-n", os.environ.get("JOBS", "2"), "--dist", "loadfile"]
    ignored = [f"--ignore=tests/{name}" for name in LEFT_OUT]
    # Others' warnings are of versions that their authors did not try together.
    run(*tests, "-rfE", "-W", "default", "-k", THESE, *TESTS, *ignored)


if __name__ == "__main__":
    main()
