"""What is imported when: nothing heavy by nimbed itself, and by each way of running it only what it needs."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = {
    "asyncio", "faiss", "haystack", "huggingface_hub", "langchain_core", "llama_index", "nncf", "numpy", "openvino",
    "optimum", "tenacity", "torch", "tokenizers", "transformers",
}  # fmt: skip


def loaded_after(statement: str) -> set[str]:
    script = f"{statement}\nimport json, sys\nprint(json.dumps(sorted({{m.partition('.')[0] for m in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_import_is_light():
    assert not loaded_after("import nimbed") & HEAVY


@pytest.mark.parametrize(
    ("fixture", "needed"),
    [("minilm_native", {"numpy", "tokenizers"}), ("minilm_openvino_int8", {"numpy", "openvino", "tokenizers"})],
)
def test_the_runtime_needs_no_torch(fixture, needed, request):
    artefact = str(request.getfixturevalue(fixture))
    loaded = loaded_after(f"from nimbed import Encoder\nEncoder({artefact!r}).encode(['a text'])")
    assert loaded & HEAVY == needed


@pytest.mark.parametrize("module", ["build", "observed", "products", "rounding", "second_pass", "words"])
def test_the_native_builder_is_numpy_alone(module):
    loaded = loaded_after(f"import nimbed.quantization.native.{module}")
    assert loaded & HEAVY == {"numpy"}
