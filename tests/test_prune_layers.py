"""What benchmarks/prune_layers.py does to a network, on seeded ones: drop a layer, distil the rest, write a folder."""

from __future__ import annotations

import importlib
import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from nimbed import Encoder
from nimbed._text.tokenizer import TextTokenizer, load_tokenizer
from nimbed.spec import read_spec
from tests.conftest import ROOT
from tests.support.tiny_models import MODELS, write_model

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType


@pytest.fixture(scope="module")
def pruning() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        return importlib.import_module("_pruning")


@pytest.fixture(scope="module")
def texts(peps) -> list[str]:
    return peps[:32]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, texts) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "tiny", MODELS["bert"], texts)


@pytest.fixture
def model(pruning, folder):
    return pruning.load(folder)


@pytest.fixture
def lesson(pruning, model, folder, texts):
    spec = read_spec(folder)
    tokenizer = TextTokenizer(load_tokenizer(folder), spec, max_length=spec.max_length, truncate="silent")
    return pruning.Lesson.by(model, spec.pooling, tokenizer(texts).sequences)


def test_what_is_left_is_the_same_bit_for_bit(pruning, model):
    before = {name: weights.clone() for name, weights in model.state_dict().items()}
    pruned = pruning.without(model, 0)
    moved = {name.replace("layer.0.", "layer.1."): weights for name, weights in pruned.state_dict().items()}
    assert set(moved) == {name for name in before if "encoder.layer.0." not in name}
    assert all(weights.equal(before[name]) for name, weights in moved.items())
    assert pruned.config.num_hidden_layers == 1
    assert model.config.num_hidden_layers == len(model.encoder.layer) == 2


def test_the_layer_that_does_nothing_goes(pruning, model, lesson):
    for layer in model.encoder.layer:
        layer.attention.output.LayerNorm.reset_parameters()
        layer.output.LayerNorm.reset_parameters()
    for part in (model.encoder.layer[1].attention.output.dense, model.encoder.layer[1].output.dense):
        part.weight.data.zero_()
        part.bias.data.zero_()
    same = pruning.Lesson.by(model, lesson.pooling, lesson.sequences)
    ((_, record),) = pruning.prune(model, [1], same, lambda _: {"steps": 0})
    assert record["kept"] == [0]
    assert record["cosine_before"] == pytest.approx(1, abs=1e-5)
    assert record["cosine_without"][0][0] < 0.999


def test_a_distilled_folder_opens_and_is_closer(pruning, model, lesson, folder, texts, tmp_path):
    def learn(pruned):
        return pruning.distil(pruned, lesson, steps=40, minutes=0, seed=0)

    ((pruned, record),) = pruning.prune(model, [1], lesson, learn)
    assert record["steps"] == 40
    assert record["cosine_after"] > record["cosine_before"] + 0.1
    assert pruned.embeddings.word_embeddings.weight.equal(model.embeddings.word_embeddings.weight)
    pruning.write(pruned, folder, tmp_path / "pruned")
    wanted = pruning.vectors(pruned, lesson.pooling, lesson.sequences).numpy()
    with Encoder(tmp_path / "pruned", backend="torch", truncate="silent") as encoder:
        got = encoder.encode(texts)
    np.testing.assert_allclose(got / np.linalg.norm(got, axis=1, keepdims=True), wanted, atol=1e-5)
    assert layers(tmp_path / "pruned") == 1
    assert layers(folder) == 2


def layers(place: Path) -> int:
    return json.loads((place / "config.json").read_text(encoding="utf-8"))["num_hidden_layers"]


def test_a_round_of_batches_holds_each_text_once(pruning):
    lengths = np.random.default_rng(0).integers(1, 256, 500)
    made, seen = [], pruning.batches(lengths, np.random.default_rng(1))
    while sum(map(len, made)) < len(lengths):
        made.append(next(seen))
    assert sorted(np.concatenate(made)) == list(range(len(lengths)))
    # Lengths are shaken by up to a quarter before they are sorted, and batches filled by those.
    assert max(len(rows) * lengths[rows].max() for rows in made) <= 1.25 * pruning.BATCH_TOKENS
