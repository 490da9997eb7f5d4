"""make install-check: what the README and the docs say to install, each in an environment that has nothing else.

python .ci/install_check.py [EXTRAS...]: of each command the extras are installed, the doctor must call them installed,
and the modules that they are for must be imported. The README's code of a framework runs on a seeded folder.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "build" / "install-check"
# What an extra is for, as it is imported; of one that is not here, the doctor's word is enough.
MODULES = {
    "": "nimbed",
    "haystack": "nimbed.haystack",
    "langchain": "nimbed.langchain",
    "llama-index": "nimbed.llama_index",
    "mteb": "nimbed.mteb",
    "openvino": "nimbed.backends.openvino",
    "otel": "nimbed.opentelemetry",
    "prometheus": "nimbed.prometheus",
    "quantize": "nimbed.quantization.openvino.build",
    "ray": "nimbed.ray",
    "serve": "nimbed.server.app",
    "torch": "nimbed.backends.torch",
}
# Several gigabytes, in an environment and with constraints of its own: make test-ipex.
ELSEWHERE = {"ipex"}
MODEL = '"sentence-transformers/all-MiniLM-L6-v2"'
FORBIDDEN = ("torchvision",)


def run(*command: object) -> str:
    print("$", *(str(word)[:100] for word in command), flush=True)
    settings = {**os.environ, "NIMBED_HOME": str(WORK / "home")}
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=WORK, env=settings, text=True, stdout=subprocess.PIPE, check=True)
    return done.stdout


def named_extras() -> list[str]:
    """As they stand between brackets behind nimbed's name, on every page; and those of the table of extras."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    texts = {page.name: page.read_text(encoding="utf-8") for page in pages}
    found = {group for text in texts.values() for group in re.findall(r"nimbed\[([\w,-]+)\]", text)}
    table = texts["install.md"].split("\n## Extras\n", 1)[1].split("\n## ", 1)[0]
    rows = re.findall(r"^\| (`.+?`) \|", table, flags=re.MULTILINE)
    return sorted((found | set(re.findall(r"`([\w-]+)`", "".join(rows)))) - ELSEWHERE)


def code_of(extra: str) -> str:
    """The README's, on the folder of the seeded model; its first block where there is none for the extra."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    module = MODULES.get(extra, "")
    return next((block for block in blocks if f"from {module} import" in block), "").replace(MODEL, '"model"')


def check(group: str, wheel: Path) -> None:
    folder = WORK / "environment"
    shutil.rmtree(folder, ignore_errors=True)
    run(sys.executable, "-m", "venv", folder)
    python = folder / "bin" / "python"
    pip = (python, "-m", "pip", "install", "-q", "--no-compile", "-c", ROOT / "constraints.txt")
    run(*pip, f"{wheel}[{group}]" if group else wheel)
    installed = run(python, "-m", "pip", "list", "--format=freeze")
    if bad := [name for name in FORBIDDEN if f"{name}==" in installed]:
        sys.exit(f"nimbed[{group}] brings {', '.join(bad)}")
    said = run(folder / "bin" / "nimbed", "doctor")
    for extra in group.split(","):
        if extra not in {"", "all"} and f"{extra} (installed)" not in said:
            sys.exit(f"nimbed[{group}]: the doctor does not call {extra} installed:\n{said}")
        run(python, "-c", f"import {MODULES.get(extra, 'nimbed')}")
        if code := code_of(extra):
            print(run(python, "-c", code).strip())
    print(f"nimbed[{group}]: ok, {installed.count('==')} packages", flush=True)
    shutil.rmtree(folder)


def main() -> None:
    WORK.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(WORK / "wheel", ignore_errors=True)
    built = ("--no-deps", "--no-build-isolation", "-Cbuild-dir=build/native/{wheel_tag}")
    run(sys.executable, "-m", "pip", "wheel", "-q", *built, "-w", WORK / "wheel", ROOT)
    (wheel,) = (WORK / "wheel").glob("*.whl")
    shutil.rmtree(WORK / "model", ignore_errors=True)
    script = "import sys; sys.path[:0] = [sys.argv[1]]; from pathlib import Path; import try_install as t"
    run(sys.executable, "-c", f"{script}; t.write_model(Path('model'), 2)", ROOT / ".ci")
    for group in sys.argv[1:] or ["", *named_extras()]:
        check(group, wheel)
    for group in sorted(ELSEWHERE):
        print(f"skipped: nimbed[{group}] (an environment of its own: make test-{group})")


if __name__ == "__main__":
    main()
