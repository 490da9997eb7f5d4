"""The files that a network's weights lie in, as the file that names them says, and what they hold.

Nothing is found by the look of its name: what is hashed, fetched and computed with is one and the same list.
"""

from __future__ import annotations

import mmap
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from nimbed._files.json import bytes_of, read_json
from nimbed._files.names import LFS_POINTER, fetch_by_lfs, leads_inside, stays_within
from nimbed._model_folder import safetensors, torch_file
from nimbed._model_folder.onnx import external_data
from nimbed.errors import ArtefactError, SpecError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from nimbed._types import DenseSpec, Float32Array

    Array = np.ndarray[Any, np.dtype[Any]]

_PICKLES = (".bin", ".bin.index.json")
INDEXES = (".safetensors.index.json", _PICKLES[1])
# The table of words of BERT's kin and of ModernBERT.
_TABLES = ("embeddings.word_embeddings.weight", "embeddings.tok_embeddings.weight")
_LEARNED = (".weight", ".bias")
_LONGEST_POINTER = 1024  # bytes: https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md


def weight_files(network: Path) -> list[Path]:
    """The network's file, and behind it those that it names: the parts of an index, the data of a graph.

    Raises:
        SpecError: one is missing, is not there but for a pointer to it, or lies outside the folder.
    """
    named = [network.parent / name for name in named_files(network)]
    for file in (network, *named):
        if not file.is_file():
            raise SpecError(f"{file} is missing, but {network.name} names it; fetch the folder again")
        refuse_pointer(file)
    if strays := [file for file in named if not stays_within(network.parent, file)]:
        raise SpecError(
            f"{strays[0]} is a link that leads out of its folder, and {network.name} names it; copy it there"
        )
    return [network, *named]


def named_files(network: Path) -> list[str]:
    """The files that a network's own names, relative to its folder, whether they are there or not.

    Raises:
        SpecError: it cannot be read, or a name leads out of the folder.
    """
    refuse_pointer(network)
    if network.suffix == ".xml":  # names none: OpenVINO takes the one beside it, if there is one
        beside = network.with_suffix(".bin")
        return [beside.name] if beside.is_file() else []
    if network.suffix == ".onnx":
        names = [PurePosixPath(name).as_posix() for name in _external_data(network)]
    else:
        names = list(weight_map(network).values()) if network.name.endswith(INDEXES) else []
    if wrong := [name for name in names if not leads_inside(name)]:
        raise SpecError(f"{network} names {wrong[0]!r}, which is no file within its folder")
    return sorted(set(names))


def weight_map(index: Path) -> dict[str, str]:
    """Which file has which tensor, as the index of a network in parts says.

    Raises:
        SpecError: it does not say that.
    """
    content = read_json(index).get("weight_map")
    if not isinstance(content, dict) or not content or not all(isinstance(name, str) for name in content.values()):
        raise SpecError(f"{index}: weight_map: no names of files by names of tensors; fetch it again")
    return content


def refuse_pointer(file: Path) -> None:
    """Refuse what a clone without Git LFS has in a large file's place.

    Raises:
        SpecError: it is that.
    """
    try:
        if file.stat().st_size > _LONGEST_POINTER:
            return
        beginning = bytes_of(file)[: len(LFS_POINTER)]
    except OSError as err:
        raise SpecError(f"{file} cannot be read: {err}; fetch it again") from err
    if beginning == LFS_POINTER:
        raise SpecError(fetch_by_lfs(file))


def _external_data(graph: Path) -> list[str]:
    try:
        with graph.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return external_data(content)
    except (OSError, ValueError) as err:
        raise SpecError(f"{graph} cannot be read: {err}; fetch it again") from err


def read_network(network: Path) -> dict[str, Array]:
    """The tensors by name of ``*.safetensors``, ``*.bin``, or the parts that an index names, as views of the files.

    Raises:
        SpecError: a file or a tensor is missing or damaged, or has numbers that are not finite; names it.
    """
    weight_files(network)
    pickled = network.name.endswith(_PICKLES)
    if not network.name.endswith(INDEXES):
        tensors = _read(network, pickled=pickled)
    else:
        places = weight_map(network)
        parts = {file: _read(network.parent / file, pickled=pickled) for file in sorted(set(places.values()))}
        if lacking := [name for name, file in places.items() if name not in parts[file]]:
            raise SpecError(f"{network} says that {places[lacking[0]]} has {lacking[0]}, which it has not")
        tensors = {name: parts[file][name] for name, file in places.items()}
    refuse_not_finite(network, tensors)
    return tensors


def tensor_names(network: Path) -> list[str]:
    """The names of the tensors alone.

    Raises:
        SpecError: the file is damaged.
    """
    if network.name.endswith(INDEXES):
        return list(weight_map(network))
    read = torch_file.read_names if network.name.endswith(_PICKLES) else safetensors.read_names
    try:
        return read(network)
    except (ArtefactError, OSError) as err:
        raise SpecError(f"{err}; fetch it again") from err


def _read(file: Path, *, pickled: bool) -> dict[str, Array]:
    try:
        return torch_file.read_tensors(file) if pickled else safetensors.read_tensors(file)[0]
    except ArtefactError as err:
        raise SpecError(f"{err}; fetch it again") from err


def refuse_not_finite(network: Path, tensors: Mapping[str, Array]) -> None:
    """Refuse weights by which no vector can be computed.

    Raises:
        SpecError: one is NaN or infinite, or becomes it in fp32; names it.
    """
    for name, values in tensors.items():
        if values.dtype.kind == "f" and not _is_sound(values, learned=name.endswith(_LEARNED)):
            raise SpecError(
                f"{network}: {name} has numbers that are NaN or infinite, or are so in fp32: the weights are damaged"
            )


def _is_sound(values: Array, *, learned: bool) -> bool:
    """Finite in fp32, or what masks are made of: one number that is infinite, or nothing but 0 and minus infinity.

    A bias may look like that too: all of one label's, or of a layer whose others are zeros.
    """
    if not values.size:
        return True
    with np.errstate(over="ignore"):  # of float64
        ends = np.array([values.min(), values.max()]).astype(np.float32)
        if learned or np.isfinite(ends).all():
            return bool(np.isfinite(ends).all())
        narrow = values.astype(np.float32)
    return bool(not np.isnan(ends[0]) and (values.size == 1 or np.isin(narrow, (0, -np.inf)).all()))


def read_dense(folder: Path, dense: DenseSpec) -> dict[str, Float32Array]:
    """A dense layer's ``linear.weight`` and, if it has one, ``linear.bias``, float32.

    Raises:
        SpecError: one is missing, not finite, or of another shape than its settings say.
    """
    path = folder / dense.weights
    found = read_network(path)
    wanted: dict[str, tuple[int, ...]] = {"linear.weight": (dense.out_features, dense.in_features)}
    if dense.bias:
        wanted["linear.bias"] = (dense.out_features,)
    for name, shape in wanted.items():
        there = found[name].shape if name in found else None
        if there != shape:
            raise SpecError(f"{path}: {name} has shape {there}, config.json says {shape}")
    return {name: found[name].astype(np.float32) for name in wanted}


def check_one_encoder(network: Path) -> None:
    """Refuse weights of two encoders: engines would choose between them by rules of their own.

    Args:
        network: weights, or the ``.index.json`` of their parts; graphs are passed over.

    Raises:
        SpecError: there are two tables of words, or two tensors of one name behind the table's prefix; or the file is
            damaged.
    """
    if network.suffix in {".onnx", ".xml"}:
        return
    names = tensor_names(network)
    prefixes = {name: name.removesuffix(table) for table in _TABLES for name in sorted(names) if name.endswith(table)}
    if len(prefixes) > 1:
        tables = list(prefixes)
        raise SpecError(
            f"{network} holds two encoders: {tables[0]} and {tables[1]}; "
            "save the one that is meant with transformers (model.save_pretrained) in a folder of its own"
        )
    usual_names(network, names, next(iter(prefixes.values()), ""))


def usual_names(network: Path, names: Iterable[str], prefix: str = "") -> dict[str, str]:
    """The names by what is usual: without the encoder's prefix, and without TensorFlow's of the first BERTs' LayerNorm.

    Raises:
        SpecError: two are the same.
    """
    found: dict[str, str] = {}
    for name in names:
        usual = name.removeprefix(prefix).replace("LayerNorm.gamma", "LayerNorm.weight")
        if (other := found.setdefault(usual.replace("LayerNorm.beta", "LayerNorm.bias"), name)) != name:
            raise SpecError(f"{network}: {other} and {name} are one tensor of the network; keep the one that is meant")
    return found
