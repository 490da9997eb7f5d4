"""The files of a model folder that can change a vector, and what is hashed of them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from nimbed._files.digests import sha256_of
from nimbed._files.json import bytes_of
from nimbed._model_folder.peft_adapter import adapter_files
from nimbed._model_folder.task_adapters import IN_FILES
from nimbed._model_folder.tokenizer_settings import FILES
from nimbed._model_folder.weights import weight_files
from nimbed.errors import SpecError

if TYPE_CHECKING:
    from pathlib import Path

    from nimbed._types import ModelSpec

_SETTINGS = ("config.json", *FILES)


@dataclass(frozen=True, kw_only=True)
class ModelFiles:
    """Those of one network. Hashed when first asked for.

    Attributes:
        weights: the network's file, those that it names, and those of the dense layers and of adapters.
        settings: what describes it, and its tokenizer.
    """

    weights: tuple[Path, ...]
    settings: tuple[Path, ...]

    @cached_property
    def weights_sha256(self) -> str:
        """Of a lone file the usual; of several, that of a list of theirs."""
        return _joint(self.weights)

    @cached_property
    def settings_sha256(self) -> str:
        """In the same way."""
        return _joint(self.settings)

    @property
    def digest(self) -> str:
        """Over all of them."""
        return hashlib.sha256(f"{self.weights_sha256} {self.settings_sha256}".encode()).hexdigest()


def model_files(folder: Path, network: Path, spec: ModelSpec) -> ModelFiles:
    """What a network is computed from.

    Args:
        folder: of the model.
        network: its graph, its safetensors or their index.
        spec: of the model.

    Raises:
        SpecError: a file of weights is missing or no such file.
    """
    dense = [file for layer in spec.dense for file in weight_files(folder / layer.weights)]
    settings = [file for name in _SETTINGS if (file := folder / name).is_file()]
    names = dict.fromkeys(spec.adapters.values()) if spec.architecture == IN_FILES else ()
    adapters = [adapter_files(folder, name) for name in names]
    weights = (*weight_files(network), *dense, *(file for _, file in adapters))
    return ModelFiles(weights=weights, settings=(*settings, *(file for file, _ in adapters)))


def _joint(files: tuple[Path, ...]) -> str:
    try:
        each = [_sha256(file) for file in files]
    except OSError as err:
        raise SpecError(f"{err.filename} cannot be read: {err.strerror}; fetch the folder again") from err
    return each[0] if len(each) == 1 else hashlib.sha256("\n".join(each).encode()).hexdigest()


def _sha256(file: Path) -> str:
    """Of weights a read of its own; settings and indexes are hashed as they were parsed."""
    return hashlib.sha256(bytes_of(file)).hexdigest() if file.suffix == ".json" else sha256_of(file)
