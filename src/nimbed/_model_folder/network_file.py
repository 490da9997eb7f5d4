"""Which file of a model folder holds the network: the user's choice, or the first that an engine reads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from nimbed._files.names import path_within
from nimbed._model_folder.weights import INDEX
from nimbed.errors import InputError, ModelNotFoundError

if TYPE_CHECKING:
    from collections.abc import Sequence

_GRAPH_SUFFIXES, _SUFFIXES = (".xml", ".onnx"), (".safetensors", INDEX)
# The first that a folder has is what an artefact is built from: the two graphs need no torch.
_GRAPHS = (
    "openvino/openvino_model.xml",
    "openvino_model.xml",
    "onnx/model.onnx",
    "model.onnx",
    "model.safetensors",
    "model.safetensors.index.json",
)
PICKLE = "pytorch_model.bin"
_SAFETENSORS = _GRAPHS[-2:]
# These read weights and no graphs. What optimum-intel saves for IPEX is a pickle, or TorchScript under the same name.
_NETWORKS = {
    "ipex": (*_SAFETENSORS, PICKLE),
    "native": _SAFETENSORS,
    "torch": _SAFETENSORS,
    # Settings alone, by which an engine is chosen.
    "auto": (),
}


def networks(engine: str) -> Sequence[str]:
    """The names by which an engine finds a network, the first that is there first; for "auto" none."""
    return _NETWORKS.get(engine, _GRAPHS)


def graph_file(folder: Path, file: str | None, engine: str = "openvino") -> Path:
    """The file that holds the network: the user's choice, or the first that the engine reads.

    That is an OpenVINO file, an ONNX file, or safetensors; for IPEX safetensors, or what optimum-intel saved.

    Raises:
        InputError: ``file``, the user's choice, does not exist, or is of a kind that the engine does not read.
        ModelNotFoundError: the folder holds none of them.
    """
    if file is not None:
        if not (folder / _within(file)).is_file():
            raise InputError(f"Source(file={file!r}): no such file in {folder}")
        return folder / readable(file, engine)
    names = networks(engine)
    graph = next((name for name in names if (folder / name).is_file()), None)
    if graph is None:
        raise no_graph(folder, names, pickled=(folder / PICKLE).is_file())
    return folder / graph


def reads(engine: str, file: str) -> bool:
    """Whether an engine reads files of this one's kind."""
    return file.endswith(_SUFFIXES if _NETWORKS.get(engine) else (*_GRAPH_SUFFIXES, *_SUFFIXES))


def readable(file: str, engine: str) -> str:
    """The user's choice, if it is of a kind that the engine reads."""
    if not reads(engine, _within(file)):
        kinds = ", ".join(suffix for suffix in (*_GRAPH_SUFFIXES, *_SUFFIXES) if reads(engine, suffix))
        raise InputError(f"Source(file={file!r}) is not of a kind that backend={engine!r} reads: {kinds}")
    return file


def _within(file: str) -> str:
    try:
        path_within(Path(), file)
    except ValueError as err:
        raise InputError(f"Source(file={file!r}) must be relative to the model folder, and within it: {err}") from err
    return file


def no_graph(place: object, names: Sequence[str], *, pickled: bool) -> ModelNotFoundError:
    why = f" ({PICKLE} is a pickle, which may run code: it is not read)" if pickled else ""
    return ModelNotFoundError(f"{place}: found none of {', '.join(names)}{why}")
