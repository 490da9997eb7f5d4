"""What a manifest of any format says, and the command that builds its artefact again."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.artefacts import SPEC, manifest

from nimbed._loading.manifest import SourceRecord
from nimbed._loading.outline import Outline
from nimbed.cli import _parser

OUT = Path("/some/folder with a space")
FOLDER = SourceRecord(id="minilm", revision=None, file="model.safetensors", sha256="0" * 64)


def rebuilding(**changes):
    values = json.loads(json.dumps(asdict(manifest(**changes))))
    return Outline.of(values).rebuilding(OUT)


def command_of(said):
    """What the command's own parser makes of it."""
    words = shlex.split(said.removeprefix("build it again: ").partition(" (")[0])
    assert words[0] == "nimbed"
    return _parser().parse_args(words[1:])


def test_the_command_builds_the_same():
    chosen = command_of(rebuilding())
    assert (chosen.model, chosen.out, chosen.backend) == ("some/model", OUT, "openvino")
    assert (chosen.precision, chosen.revision, chosen.file, chosen.pooling) == ("int8", "abc", None, None)
    assert (chosen.count, chosen.seed, chosen.force) == (128, 0, False)


def test_all_that_the_command_has_options_for():
    calibration = {"origin": "the user's texts", "sha256": "0", "count": 7, "seed": 3}
    said = rebuilding(
        source=SourceRecord(id="a/b", revision="c", file="onnx/model.onnx", sha256="0"),
        spec=replace(SPEC, pooling="cls", origins={"pooling": "set by the user"}),
        calibration=calibration,
        forced=True,
    )
    chosen = command_of(said)
    assert (chosen.file, chosen.pooling, chosen.calibrate) == ("onnx/model.onnx", "cls", "FILE")
    assert (chosen.count, chosen.seed, chosen.force) == (7, 3, True)
    assert said.endswith("(FILE is that of your calibration texts)")


def test_a_folder_is_said_to_be_one():
    assert rebuilding(source=FOLDER).endswith("--precision int8 (./minilm is the model's folder, wherever it is now)")


def test_what_the_command_has_no_option_for_is_said_in_python():
    origins = {"normalize": "set by the user", "prompt query": "set by the user", "prompt document": "modules.json"}
    spec = replace(SPEC, normalize=False, prompts={"query": "q: ", "document": "d: "}, origins=origins)
    assert rebuilding(spec=spec).endswith("(in Python: spec=SpecOverrides(normalize=False, prompts={'query': 'q: '}))")


def test_a_task_is_said_too():
    spec = replace(
        SPEC, adapters=dict.fromkeys(("query", "document"), "separation"), origins={"task": "set by the user"}
    )
    assert command_of(rebuilding(spec=spec)).task == "separation"
    assert "task" not in rebuilding(spec=replace(spec, origins={"task": "the model's adapters"}))
    told = replace(SPEC, prompt_task="Find a law", origins={"task": "set by the user"})
    assert command_of(rebuilding(spec=told)).task == "Find a law"


@pytest.mark.parametrize("lacking", ["source", "engine", "precision"])
def test_without_what_it_needs_there_is_no_command(lacking):
    values = {**asdict(manifest()), lacking: None}
    assert Outline.of(values).rebuilding(OUT) == "build it again from its model with `nimbed quantize`"


@pytest.mark.parametrize("name", ["; rm -r ~", "--out=x", "$(id)", "a b", "a'b", "`id`"])
def test_a_name_is_never_more_than_a_word(name):
    assert command_of(rebuilding(source=replace(FOLDER, id=name))).model == f"./{name}"


@pytest.mark.parametrize("name", ["-a/b", "a\nb", "\x1b[2J", ""])
def test_a_name_that_cannot_be_typed_is_left_out(name):
    assert rebuilding(source=replace(FOLDER, id=name)) == "build it again from its model with `nimbed quantize`"


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
KEYS = st.sampled_from(["source", "spec", "calibration", "engine", "precision", "format", "forced"])


@given(values=st.dictionaries(KEYS, ANYTHING), source=ANYTHING, origins=ANYTHING)
def test_whatever_is_written_there_nothing_fails(values, source, origins):
    Outline.of(values).rebuilding(OUT)
    spec = {"origins": origins, "prompts": origins, "pooling": source}
    Outline.of({**values, "source": {"id": source, "revision": source, "file": source}, "spec": spec}).rebuilding(OUT)
