"""Time from nothing: ``import nimbed``, and an artefact on disk to the first vector, each in fresh processes.

The second figure begins before ``import nimbed`` and ends with the vector of one query; starting the interpreter is
shown beside it. After the first process the files are in the page cache and the modules are compiled, as installing
compiles them. Exits with 1 where a gate fails.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import _common

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_IMPORT_SECONDS = 0.2
MAX_FIRST_VECTOR_SECONDS = {"native": 0.3, "openvino": 1.5}
HEAVY = ("langchain_core", "llama_index", "openvino", "torch", "transformers")

_IMPORT = f"""
import json, sys, time
started = time.perf_counter()
import nimbed
seconds = time.perf_counter() - started
print(json.dumps({{"seconds": seconds, "loaded": [m for m in {HEAVY} if m in sys.modules]}}))
"""
_FIRST_VECTOR = """
import json, sys, time
started = time.perf_counter()
from nimbed import Encoder
imported = time.perf_counter()
encoder = Encoder(sys.argv[1])
opened = time.perf_counter()
encoder.encode_query("How long does the first vector take?")
done = time.perf_counter()
print(json.dumps({"seconds": done - started, "import": imported - started, "open": opened - imported,
                  "encode": done - opened}))
encoder.close()
"""


def main() -> int:
    parser = _common.parser(__doc__)
    parser.add_argument("--runs", type=int, default=7, help="fresh processes for each figure, 5 or more")
    parser.add_argument("--backend", default="auto", help="native or openvino")
    options = parser.parse_args()
    import nimbed

    runs = 1 if options.quick else options.runs
    artefact = nimbed.quantize(options.model, backend=options.backend)
    engine = artefact.manifest.engine
    conditions = _common.conditions(engine=engine, runs=runs, page_cache="warm")
    imports = fresh(runs, _IMPORT)
    vectors = fresh(runs, _FIRST_VECTOR, str(artefact.folder))
    report(imports, vectors)
    record = {"conditions": conditions, "import": imports, "first_vector": vectors}
    return _common.finish(options, "coldstart", record, judge(imports, vectors, MAX_FIRST_VECTOR_SECONDS[engine]))


def fresh(runs: int, script: str, *arguments: str) -> list[dict[str, Any]]:
    """What the script prints, and the whole time of its process, after a first run that is not counted."""
    records: list[dict[str, Any]] = []
    command = [sys.executable, "-c", script, *arguments]
    compiled = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}

    def once() -> None:
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=compiled)
        records.append(json.loads(done.stdout))

    for _ in range(runs + 1):
        whole = _common.seconds(once)
        records[-1]["process"] = whole
    return records[1:]


def median(records: Sequence[dict[str, Any]], name: str) -> float:
    """Of one field."""
    return statistics.median(record[name] for record in records)


def judge(imports: list[dict[str, Any]], vectors: list[dict[str, Any]], most_seconds: float) -> dict[str, bool]:
    """The gates, by name."""
    return {
        f"import nimbed below {MAX_IMPORT_SECONDS} s": median(imports, "seconds") < MAX_IMPORT_SECONDS,
        f"import nimbed loads none of {', '.join(HEAVY)}": not any(record["loaded"] for record in imports),
        f"artefact on disk to first vector below {most_seconds} s": median(vectors, "seconds") < most_seconds,
    }


def report(imports: list[dict[str, Any]], vectors: list[dict[str, Any]]) -> None:
    """The table, in Markdown."""
    rows = {
        "import nimbed": median(imports, "seconds"),
        "artefact on disk to first vector": median(vectors, "seconds"),
        "- of it, importing": median(vectors, "import"),
        "- of it, opening": median(vectors, "open"),
        "- of it, the query": median(vectors, "encode"),
        "the whole process, interpreter and exit included": median(vectors, "process"),
    }
    print("\n| medians | seconds |\n|---|---|")
    for name, value in rows.items():
        print(f"| {name} | {value:.3f} |")


if __name__ == "__main__":
    sys.exit(main())
