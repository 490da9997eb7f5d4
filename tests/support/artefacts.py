"""Artefacts' folders made by hand: no engine can run them, and all that is checked of them holds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from nimbed._loading.artefact import file_records, open_artefact
from nimbed._loading.manifest import MANIFEST, Manifest, SourceRecord, _checksum, write_manifest
from nimbed._types import ModelSpec
from nimbed.errors import ArtefactError

if TYPE_CHECKING:
    from pathlib import Path

SPEC = ModelSpec(
    architecture="bert", hidden_size=8, dim=8, pooling="mean", normalize=True, max_length=16,
    prompts={"query": "为: "}, origins={"pooling": "modules.json"},
)  # fmt: skip
QUALITY = {"texts": 9, "min_cosine": 0.99, "thresholds": {"min_cosine": 0.9}, "missed": []}
FILES = {"model.xml": b"<net/>", "model.bin": bytes(range(256)), "tokenizer.json": b"{}", "extra/notes.txt": b"n"}


def manifest(**changes: object) -> Manifest:
    """One of an int8 artefact for OpenVINO, with some fields changed."""
    values = {
        "engine": "openvino",
        "precision": "int8",
        "source": SourceRecord(id="some/model", revision="abc", file="model.safetensors", sha256="0" * 64),
        "spec": SPEC,
        "key": "k",
        "files": {},
    }
    return Manifest(**{**values, **changes})


def made(folder: Path, **changes: object) -> Path:
    """An artefact's folder by hand; ``changes`` are laid over its manifest."""
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    write_manifest(folder, manifest(**{"quality": QUALITY, "files": file_records(folder), **changes}))
    return folder


def rewrite(folder: Path, **changes: object) -> Path:
    """Other words in the manifest, with a checksum that is right: what a maker says, not damage."""
    values = {**json.loads((folder / MANIFEST).read_text(encoding="utf-8")), **changes}
    values = {key: value for key, value in values.items() if key != "checksum" and value is not ...}
    (folder / MANIFEST).write_text(json.dumps({**values, "checksum": _checksum(values)}), encoding="utf-8")
    return folder


def refused(folder: Path, *named: str) -> None:
    """Opening it is an error of ours that names these."""
    with pytest.raises(ArtefactError) as caught:
        open_artefact(folder)
    assert isinstance(caught.value, OSError)
    for word in named:
        assert word in str(caught.value)
