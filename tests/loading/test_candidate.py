"""What is found out about a model goes along to its opening: no settings file is read twice, no hub id resolved twice.

Weights may be: their bytes are hashed here (sha256 of a model folder's, CRC-32 of an artefact's) and mapped or loaded
by the engine, which is another read of them. ``tokenizer.json`` is hashed here and parsed by the package tokenizers.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.support.artefacts import SPEC, made, rewrite
from tests.support.cross_encoders import write_cross_encoder
from tests.support.fake_hub import taken_for_the_hub
from tests.support.model_folders import BERT

from nimbed import Encoder, Reranker, Source, SpecOverrides, quantize
from nimbed._loading import auto, resolve
from nimbed._loading.candidate import find
from nimbed._loading.manifest import MANIFEST
from nimbed._loading.settings import Settings
from nimbed.errors import InputError, QualityError

if TYPE_CHECKING:
    from pathlib import Path

TOLD = {
    None: ("Instruct: Find a law\nQuery:", "", "Find a law"),
    "Find a court": ("Instruct: Find a court\nQuery:", "", "Find a court"),
    "Clustering": ("C: ", "C: ", "Clustering"),
}
# Opens by Python: engines and tokenizers, which are written in C++ and Rust, are not seen.
OPENING = """
import json, os, sys
opened = []
def hook(event, args):
    if event == "open" and isinstance(args[0], (str, bytes, os.PathLike)):
        opened.append(os.path.realpath(os.fsdecode(args[0])))
import nimbed
what, model, settings = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
sys.addaudithook(hook)
getattr(nimbed, what)(model, **settings)
sys.stdout.write(json.dumps(opened))
sys.stdout.flush()
os._exit(0)
"""


def opens(what: str, model: Path, within: Path | None = None, **settings: object) -> Counter[str]:
    """How often each file of a folder is opened while a model is."""
    command = [sys.executable, "-c", OPENING, what, str(model), json.dumps(settings)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    folder = os.path.realpath(within or model)
    return Counter(os.path.relpath(path, folder) for path in json.loads(done.stdout) if path.startswith(folder))


def is_weights(name: str) -> bool:
    return name.endswith((".safetensors", ".bin", ".npy"))


def assert_read_once(counts: Counter[str], *expected: str) -> None:
    assert set(expected) <= set(counts)
    assert {name: count for name, count in counts.items() if count > 1 and not is_weights(name)} == {}
    # The header of safetensors is read once, and the whole is hashed once. (numpy opens what it maps three times.)
    assert max((count for name, count in counts.items() if name.endswith((".safetensors", ".bin"))), default=0) <= 2


SETTINGS = ("config.json", "modules.json", "tokenizer_config.json", "1_Pooling/config.json")


def test_a_native_folder_reads_each_settings_file_once(minilm_folder, minilm_native):
    assert_read_once(opens("Encoder", minilm_folder, backend="native"), "model.safetensors", *SETTINGS)
    assert_read_once(opens("Encoder", minilm_folder, minilm_native, backend="native"), "nimbed.json")


def test_with_an_engine_chosen_it_is_the_same(minilm_folder, minilm_int8):
    assert_read_once(opens("Encoder", minilm_folder), "model.safetensors", "config.json", "modules.json")
    assert_read_once(opens("Encoder", minilm_folder, minilm_int8), "nimbed.json")


def test_a_network_in_parts_has_its_index_read_once(tiny_folder, tmp_path):
    import shutil

    from tests.model_folder.test_weights import split

    folder = shutil.copytree(tiny_folder, tmp_path / "parts")
    split(folder, "1.safetensors", "2.safetensors")
    quantize(folder, progress=False, force=True)
    counts = opens("Encoder", folder)
    assert_read_once(counts, "model.safetensors.index.json", "config.json", "modules.json")


def test_an_artefact_reads_its_manifest_once(minilm_openvino_int8):
    assert_read_once(opens("Encoder", minilm_openvino_int8), "nimbed.json", "tokenizer.json")


def test_a_reranker_reads_each_settings_file_once(tmp_path):
    folder = write_cross_encoder(tmp_path / "scoring", "bert")
    assert_read_once(opens("Reranker", folder, backend="fake"), "config.json", "tokenizer_config.json")


def test_a_bi_encoder_in_a_reranker_too(minilm_folder, minilm_int8):
    assert_read_once(opens("Reranker", minilm_folder), "config.json", "modules.json")
    assert_read_once(opens("Reranker", minilm_int8), "nimbed.json")


SCORING = {**BERT, "architectures": ["BertForSequenceClassification"], "id2label": {"0": "LABEL_0"}}
NATIVE = {**BERT, "num_attention_heads": 2, "num_hidden_layers": 2, "intermediate_size": 64}
HUB = {
    "some/bert": {"config.json": NATIVE, "model.safetensors": "weights", "openvino_model.xml": "<net/>"},
    "some/other": {"config.json": {**BERT, "model_type": "other"}, "openvino_model.xml": "<net/>"},
    "some/scoring": {"config.json": SCORING, "openvino_model.xml": "<net/>"},
}


class StopError(Exception):
    """Resolving ends where the build would begin."""


@pytest.fixture
def hub(monkeypatch, tmp_path):
    contents = {
        name: {file: (json.dumps(c) if isinstance(c, dict) else c).encode() for file, c in files.items()}
        for name, files in HUB.items()
    }
    with taken_for_the_hub(contents, tmp_path / "cache", monkeypatch) as served:
        yield served


@pytest.mark.parametrize("backend", ["auto", "openvino"])
@pytest.mark.parametrize(
    ("what", "name"), [(Encoder, "some/bert"), (Encoder, "some/other"), (Reranker, "some/scoring")]
)
def test_a_hub_id_is_resolved_once(hub, monkeypatch, what, name, backend):
    def stop(*_: object, **__: object) -> None:
        raise StopError

    monkeypatch.setattr(resolve, "make_request", stop)
    with pytest.raises(StopError):
        what(name, backend=backend, spec=None if what is Reranker else SpecOverrides(pooling="mean"))
    asked = Counter(path for _, path in hub.requests)
    # What the repository holds is asked once, and nothing is asked by the name of a branch that may move meanwhile.
    assert asked[f"/api/models/{name}"] == 1
    assert asked[f"/api/models/{name}/revision/main"] <= 1
    gets = Counter(path for method, path in hub.requests if method == "GET" and "/resolve/" in path)
    assert set(gets.values()) == {1}


def test_the_fallback_is_one_for_all(monkeypatch, tiny_folder):
    """Where int8 misses its gate the same engine's fp32 has its turn, and its own miss is the caller's."""
    monkeypatch.setattr(auto, "choose_backend", lambda: ("native", "it is there"))
    settings, tried = Settings(model=str(tiny_folder)), []

    def attempt(candidate):
        tried.append(candidate)
        if not candidate.refused or len(tried) > 2:
            raise QualityError(f"{len(tried)} misses")
        return candidate

    found = find(settings)
    taken = auto.with_its_engine(found, settings, attempt)
    assert [one.engine for one in tried] == ["native", "native"]
    assert (taken.reason, taken.refused) == ("it is there", "int8 failed its quality gate: 1 misses")
    assert tried[0].network is tried[1].network is not None
    assert tried[0].spec is tried[1].spec is found.spec
    with pytest.raises(QualityError, match="4 misses"):
        auto.with_its_engine(found, settings, attempt)
    for wanted in ({"backend": "native"}, {"precision": "int8"}):
        before = len(tried)
        with pytest.raises(QualityError, match=f"{before + 1} misses"):
            auto.with_its_engine(found, Settings(model=str(tiny_folder), **wanted), attempt)


def test_what_does_not_fit_is_not_attempted(monkeypatch, tiny_folder):
    monkeypatch.setattr(auto, "choose_backend", lambda: ("native", "it is there"))
    settings = Settings(model=str(tiny_folder), source=Source(), precision="bf16")
    taken = auto.with_its_engine(find(settings), settings, lambda candidate: candidate)
    assert (taken.engine, taken.network) == ("openvino", None)
    assert "the native engine does not fit: it has int8 and fp32" in taken.reason


@pytest.mark.parametrize("before", [True, False])
def test_an_artefact_takes_a_task_when_it_is_opened(tmp_path, before):
    """Also one that was made before manifests said which task its prompts tell."""
    spec = replace(SPEC, prompts={"query": "Instruct: Find a law\nQuery:", "Clustering": "C: "})
    folder = made(tmp_path / "artefact", spec=spec)
    if before:
        values = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["spec"]
        rewrite(folder, spec={name: value for name, value in values.items() if name != "prompt_task"})
    found = {task: find(Settings(model=str(folder), spec=SpecOverrides(task=task))).spec for task in TOLD}
    assert {task: (one.prompt("query"), one.prompt("document"), one.prompt_task) for task, one in found.items()} == TOLD
    assert find(Settings(model=str(folder), spec=SpecOverrides(prompts={"query": ""}))).spec.prompt("query") == ""
    with pytest.raises(InputError, match="the model knows Clustering; an instruction is a sentence"):
        find(Settings(model=str(folder), spec=SpecOverrides(task="STS")))
