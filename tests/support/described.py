"""Folders of networks, their descriptions and their weights, for tests of the table of networks."""

from __future__ import annotations

import json
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors.numpy
from tests.support.networks import token_ids, write_folder
from tests.support.plain_network import PlainNetwork
from tests.support.rotary_families import FAMILIES

from nimbed._files.json import Fields
from nimbed._model_folder.networks.reading import read_weights
from nimbed._model_folder.networks.table import read_description
from nimbed._types import ModelSpec

if TYPE_CHECKING:
    from nimbed._model_folder.networks.description import Network
    from nimbed._model_folder.networks.reading import Weights

_TEXTS = ("where is it", "the cat sat on a mat, and prices rose again in the month of May " * 2)
_WIDTHS = ("hidden_size", "dim", "n_embd")


def config_of(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return content


def fields_of(folder: Path) -> Fields:
    return Fields(config_of(folder), str(folder / "config.json"))


def change(folder: Path, *gone: str, **keys: object) -> Path:
    """The folder, its config with other keys."""
    content = {key: value for key, value in {**config_of(folder), **keys}.items() if key not in gone}
    (folder / "config.json").write_text(json.dumps(content))
    return folder


def tensors_of(folder: Path) -> dict[str, np.ndarray]:
    return safetensors.numpy.load_file(folder / "model.safetensors")


def save(folder: Path, tensors: dict[str, np.ndarray]) -> Path:
    safetensors.numpy.save_file(
        {name: np.ascontiguousarray(one) for name, one in tensors.items()},
        folder / "model.safetensors",
        {"format": "pt"},
    )
    return folder


def spec_of(folder: Path, **fields: Any) -> ModelSpec:
    """As read from a folder that says nothing else."""
    config = config_of(folder)
    hidden = next(config[key] for key in _WIDTHS if key in config)
    scores = "SequenceClassification" in str(config.get("architectures"))
    known = {"pooling": "cls" if scores else "mean", "task": "scoring" if scores else "embedding", "max_length": 48}
    own = {"architecture": str(config.get("model_type")), "hidden_size": hidden, "dim": hidden, "normalize": True}
    return ModelSpec(**{**own, **known, **fields})


_HOME = tempfile.TemporaryDirectory()


@cache
def _original(family: str, variant: str) -> Path:
    return write_folder(family, Path(_HOME.name) / family / variant, variant=variant)


def written(family: str, path: Path, *, variant: str = "drawn") -> Path:
    """A tiny folder of a family that tests/support knows; each is drawn once, and copied."""
    return shutil.copytree(_original(family, variant), path, dirs_exist_ok=True)


def described(folder: Path, **fields: Any) -> Network:
    return read_description(folder, spec_of(folder, **fields))


def weights_of(folder: Path, *, adapter: str = "", **fields: Any) -> Weights:
    spec = spec_of(folder, **fields)
    return read_weights(folder / "model.safetensors", folder, read_description(folder, spec), spec, adapter=adapter)


def plain(folder: Path, *, adapter: str = "", **fields: Any) -> PlainNetwork:
    return PlainNetwork(described(folder, **fields), weights_of(folder, adapter=adapter, **fields))


def ids_of(folder: Path) -> list[list[int]]:
    return token_ids(folder, _TEXTS, longest=48)


@cache
def families() -> list[str]:
    return list(FAMILIES)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """The smallest of two arrays' rows."""
    a, b = (np.atleast_2d(np.asarray(x, np.float64)) for x in (a, b))
    return float(((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).min())
