"""Fingerprints of fixed inputs, to the last digit: an index is stamped with them, and another one orphans it.

A line below may change only together with what it hashes. Where inputs are to be hashed otherwise, that is a new
version of ``FingerprintInputs``, and the CHANGELOG says that indexes must be built again.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING

import pytest
from tests.support.model_folders import DENSE, write

from nimbed import Encoder, Reranker, SpecOverrides, _machine
from nimbed._loading.engine import open_engine
from nimbed._loading.fingerprint import FingerprintInputs
from nimbed._loading.manifest import FileRecord, Manifest, SourceRecord
from nimbed._loading.settings import Settings
from nimbed._types import DenseSpec
from nimbed.backends import fake

if TYPE_CHECKING:
    from pathlib import Path

CPU = _machine.Cpu(model="a CPU", architecture="x86_64", features=("avx512_vnni", "avx2"))
WORDS = {"[UNK]": 0, "a": 1, "text": 2}
FILES = {
    "tokenizer.json": {
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": {"type": "Whitespace"},
        "model": {"type": "WordLevel", "vocab": WORDS, "unk_token": "[UNK]"},
    },
    "openvino_model.xml": "<net/>",
}
SCORING = {
    "config.json": {
        "model_type": "bert",
        "hidden_size": 32,
        "max_position_embeddings": 64,
        "architectures": ["BertForSequenceClassification"],
        "id2label": {"0": "LABEL_0"},
    },
    "modules.json": None,
}
PROMPTS = SpecOverrides(prompts={"query": "query: ", "document": "\u00e9: "})
OTHER = SpecOverrides(pooling="cls", normalize=True)


@pytest.fixture(autouse=True)
def a_cpu(monkeypatch):
    monkeypatch.setattr(_machine, "cpu", lambda: CPU)


def encoder_folder(place: Path) -> Path:
    return write(place / "model", files=FILES)


def dense_folder(place: Path) -> Path:
    dense = {"2_Dense/config.json": DENSE, "2_Dense/model.safetensors": "weights"}
    return write(place / "dense", ("Transformer", "Pooling", "Dense", "Normalize"), {**FILES, **dense})


@pytest.mark.parametrize(
    ("settings", "fingerprint"),
    [
        ({}, "0c19007df84cbe821504cb5746d68d49"),
        ({"precision": "fp32", "threads": 1, "truncate": "silent"}, "0c19007df84cbe821504cb5746d68d49"),
        ({"truncate": "chunk"}, "873b69d8c581e2af6f0836b428a100b5"),
        ({"dim": 64}, "36c142ede3b3224689a5461adae59a97"),
        ({"max_length": 100}, "5fb6770528e8f036e26bd65c12c5915b"),
        ({"spec": PROMPTS}, "c313b68a250a8b146fdfe4f6bb9bd7a9"),
    ],
    ids=str,
)
def test_built_in(settings, fingerprint):
    with Encoder("any-name", backend="fake", **settings) as encoder:
        assert encoder.fingerprint == fingerprint


@pytest.mark.parametrize(
    ("make", "settings", "fingerprint", "of_vectors"),
    [
        (encoder_folder, {}, "db4b0d08e7dcf527250eb61b57f4b477", "db4b0d08e7dcf527250eb61b57f4b477"),
        (encoder_folder, {"truncate": "chunk"}, "0816e81206f9ca7a6a310a374a4f7070", "0816e81206f9ca7a6a310a374a4f7070"),
        (encoder_folder, {"dim": 4}, "9c28e889e1d7526a9f18194da361b656", "db4b0d08e7dcf527250eb61b57f4b477"),
        (encoder_folder, {"spec": PROMPTS}, "0b449e4c2608125b39cf44567d625473", "db4b0d08e7dcf527250eb61b57f4b477"),
        (encoder_folder, {"spec": OTHER}, "327b357216efdd44cec396da59dd5e31", "327b357216efdd44cec396da59dd5e31"),
        (dense_folder, {}, "c6ad48e1f472be7d2cefeac5fb6885cc", "c6ad48e1f472be7d2cefeac5fb6885cc"),
        (dense_folder, {"truncate": "chunk"}, "5cb26fc80e740c80fd679a823638798d", "5cb26fc80e740c80fd679a823638798d"),
        (dense_folder, {"dim": 4}, "fa5df0df8b77d4aeee8b295c1699144e", "c6ad48e1f472be7d2cefeac5fb6885cc"),
        (dense_folder, {"spec": PROMPTS}, "b24331b94bf64c8a25f03ecd496bafed", "c6ad48e1f472be7d2cefeac5fb6885cc"),
        (dense_folder, {"spec": OTHER}, "30a17c26d8b6ea8a63aae15441237e97", "30a17c26d8b6ea8a63aae15441237e97"),
    ],
)
def test_of_a_model_folder(make, settings, fingerprint, of_vectors, tmp_path):
    """That of the vectors, by which they are kept, holds whatever the prompts and the width."""
    engine = open_engine(Settings(model=str(make(tmp_path)), backend="fake", **settings))
    assert (engine.info.fingerprint, engine.vector_fingerprint) == (fingerprint, of_vectors)


def test_of_a_cross_encoder(tmp_path):
    folder = write(tmp_path / "scoring", files={**FILES, **SCORING})
    with Reranker(folder, backend="fake") as reranker:
        assert reranker.kind == "cross-encoder"
        assert reranker.fingerprint == "260cd35c684d05d4d27e9ad8e6b0cc69"


def test_of_an_artefact():
    """Its files stand in the fingerprint by this digest."""
    manifest = Manifest(
        engine="native",
        precision="int8",
        source=SourceRecord(id="model", revision=None, file="model.safetensors", sha256="0"),
        spec=fake.SPEC,
        key="0",
        files={"b": FileRecord(bytes=1, sha256="12", crc32=3), "a": FileRecord(bytes=2, sha256="34", crc32=5)},
    )
    assert manifest.digest == "c7ae49bc516529849bc08066d326c7ca"


INPUTS = FingerprintInputs(
    artefact="0", backend="native", backend_version="native 1, reference", precision="int8", instruction_set="avx2",
    dim=8, max_length=64, windows=False, truncation_side="right", pooling="mean", normalize=True, prompts={},
    lowercase=False, dense=(), task="embedding", activation="identity",
)  # fmt: skip
LAYER = DenseSpec(weights="2_Dense/model.safetensors", in_features=32, out_features=8, bias=False, activation="tanh")
CHANGES = {
    "artefact": "1", "backend": "openvino", "backend_version": "native 2, reference", "precision": "fp32",
    "instruction_set": "avx512_vnni", "dim": 4, "max_length": 32, "windows": True, "truncation_side": "left",
    "pooling": "cls", "normalize": False, "prompts": {"query": "q: "}, "lowercase": True, "dense": (LAYER,),
    "task": "scoring", "activation": "sigmoid", "centered": True, "adapters": {"query": "a"},
    "template": ("q: ", " d: ", ""), "answers": (3, 4), "version": 2,
}  # fmt: skip


def test_every_input_counts():
    """A field that is added to the record, or to a dense layer, must be hashed too."""
    assert CHANGES.keys() == {field.name for field in fields(FingerprintInputs)}
    changed = {name: replace(INPUTS, **{name: value}).fingerprint() for name, value in CHANGES.items()}
    assert len({INPUTS.fingerprint(), *changed.values()}) == len(CHANGES) + 1
    others = {"weights": "3_Dense/model.safetensors", "in_features": 16, "out_features": 4, "bias": True}
    others = {**others, "activation": "relu"}
    assert others.keys() == {field.name for field in fields(DenseSpec)}
    layers = [replace(LAYER, **{name: value}) for name, value in others.items()]
    assert len({replace(INPUTS, dense=(layer,)).fingerprint() for layer in (LAYER, *layers)}) == len(others) + 1


def test_the_order_of_prompts_does_not_count():
    one, two = {"query": "q", "document": "d"}, {"document": "d", "query": "q"}
    assert replace(INPUTS, prompts=one).fingerprint() == replace(INPUTS, prompts=two).fingerprint()
