"""Which file of a model folder holds the network: the user's choice, or the first that an engine reads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from nimbed._files.names import path_within
from nimbed._model_folder.weights import INDEXES
from nimbed.errors import InputError, ModelNotFoundError

if TYPE_CHECKING:
    from collections.abc import Sequence

PICKLE = "pytorch_model.bin"
# The pickle is there for the folders that have nothing else.
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", PICKLE, f"{PICKLE}.index.json")
_SUFFIXES = (".safetensors", PICKLE, *INDEXES)


@dataclass(frozen=True, kw_only=True)
class NetworkForms:
    """The forms of a network that an engine reads.

    Attributes:
        names: by which it finds one, the first that is there first.
        suffixes: of those that the user may choose.
    """

    names: tuple[str, ...]
    suffixes: tuple[str, ...] = _SUFFIXES

    def has(self, file: str) -> bool:
        """Whether a file is of one of these kinds."""
        return file.endswith(self.suffixes)


# The first that a folder has is what an artefact is built from: the two graphs need no torch.
GRAPHS = NetworkForms(
    names=("openvino/openvino_model.xml", "openvino_model.xml", "onnx/model.onnx", "model.onnx", *_WEIGHTS),
    suffixes=(".xml", ".onnx", *_SUFFIXES),
)
WEIGHTS = NetworkForms(names=_WEIGHTS)


class Reader(Protocol):
    """An engine, as the table of backends has it."""

    @property
    def name(self) -> str:
        """What the user calls it."""

    @property
    def networks(self) -> NetworkForms:
        """What it reads."""


def graph_file(folder: Path, file: str | None, reader: Reader) -> Path:
    """The file that holds the network: the user's choice, or the first that the engine reads.

    Raises:
        InputError: ``file``, the user's choice, does not exist, or is of a kind that the engine does not read.
        ModelNotFoundError: the folder holds none of them.
    """
    if file is not None:
        if not (folder / _within(file)).is_file():
            raise InputError(f"Source(file={file!r}): no such file in {folder}")
        return folder / readable(file, reader)
    names = reader.networks.names
    graph = next((name for name in names if (folder / name).is_file()), None)
    if graph is None:
        raise no_graph(folder, names)
    return folder / graph


def readable(file: str, reader: Reader) -> str:
    """The user's choice, if it is of a kind that the engine reads."""
    if not reader.networks.has(_within(file)):
        kinds = ", ".join(reader.networks.suffixes)
        raise InputError(f"Source(file={file!r}) is not of a kind that backend={reader.name!r} reads: {kinds}")
    return file


def _within(file: str) -> str:
    try:
        path_within(Path(), file)
    except ValueError as err:
        raise InputError(f"Source(file={file!r}) must be relative to the model folder, and within it: {err}") from err
    return file


def no_graph(place: object, names: Sequence[str]) -> ModelNotFoundError:
    return ModelNotFoundError(f"{place}: found none of {', '.join(names)}")
