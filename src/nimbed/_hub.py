"""Where a model comes from: a local folder, or a repository of the Hugging Face hub, pinned to a commit."""

from __future__ import annotations

import fnmatch
import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nimbed.artefact import MANIFEST
from nimbed.errors import DownloadError, InputError, ModelNotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable
    from os import PathLike

__all__ = ["ModelSource", "Source", "graph_file", "resolve"]

logger = logging.getLogger("nimbed")

_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
_CONFIG_FILES = ("*.json", "*/config.json", "[0-9]*/model.safetensors", "LICENSE*", "README.md")
# The first that a folder has is what an artefact is built from: the two graphs need no torch.
_GRAPHS = (
    "openvino/openvino_model.xml",
    "openvino_model.xml",
    "onnx/model.onnx",
    "model.onnx",
    "model.safetensors",
)
_SHARDS = "model.safetensors.index.json"


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where and how to find a model.

    Attributes:
        revision: branch, tag or commit of a hub repository; None is its main branch. The commit is recorded.
        local_files_only: never touch the network (HF_HUB_OFFLINE=1 does the same).
        cache_folder: the hub's download cache; None is the hub's own default.
        file: the graph to use, relative to the model folder, such as "openvino/openvino_model_qint8_quantized.xml";
            None takes an OpenVINO file, an ONNX file or safetensors, in this order.
    """

    revision: str | None = None
    local_files_only: bool = False
    cache_folder: str | None = None
    file: str | None = None


@dataclass(frozen=True, kw_only=True)
class ModelSource:
    """A model's files on this machine.

    Attributes:
        name: the hub id, or the folder's name.
        folder: where its files are.
        revision: the commit, for a hub repository.
    """

    name: str
    folder: Path
    revision: str | None = None


def resolve(model: str | PathLike[str], source: Source) -> ModelSource:
    """Find a model's folder, downloading what is needed of a hub repository.

    Raises:
        ModelNotFoundError: there is no such folder or repository.
        DownloadError: the hub could not be reached after bounded retries, or refused.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        return ModelSource(name=_local_name(folder), folder=folder.resolve())
    name = str(model)
    if folder.exists() or not _HUB_ID.fullmatch(name) or name.startswith("."):
        raise ModelNotFoundError(f"{name}: neither a folder nor a hub id (owner/name)")
    if "/" not in name:
        # The short names that sentence-transformers' documentation uses.
        name = f"sentence-transformers/{name}"
    return _from_hub(name, source)


def graph_file(folder: Path, source: Source) -> Path:
    """The file that holds the network: the user's choice, or the first of OpenVINO, ONNX, safetensors.

    Raises:
        InputError: ``source.file`` does not exist.
        ModelNotFoundError: the folder holds none of them.
    """
    if source.file is not None:
        chosen = folder / source.file
        if not chosen.is_file():
            raise InputError(f"Source(file={source.file!r}): no such file in {folder}")
        return chosen
    for name in (*_GRAPHS, _SHARDS):
        if (folder / name).is_file():
            return folder / name
    pickled = " (pytorch_model.bin is a pickle, which may run code: it is not read)" if _has_pickle(folder) else ""
    raise ModelNotFoundError(f"{folder}: found none of {', '.join(_GRAPHS)}{pickled}")


def _has_pickle(folder: Path) -> bool:
    return (folder / "pytorch_model.bin").is_file()


def _local_name(folder: Path) -> str:
    """A folder's name; inside the hub's cache, the hub id."""
    for part in folder.resolve().parts:
        if part.startswith("models--"):
            return part.removeprefix("models--").replace("--", "/")
    return folder.resolve().name


def _from_hub(name: str, source: Source) -> ModelSource:
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    options: dict[str, Any] = {"repo_id": name, "cache_dir": source.cache_folder}
    if source.local_files_only or constants.HF_HUB_OFFLINE:
        try:
            folder = Path(snapshot_download(revision=source.revision, local_files_only=True, **options))
        except LocalEntryNotFoundError as err:
            raise ModelNotFoundError(
                f"{name} is not in the download cache, and offline mode forbids the network; "
                f"fetch it once online: hf download {name}"
            ) from err
        return ModelSource(name=name, folder=folder, revision=folder.name)
    try:
        commit, files = _retrying(lambda: _repository(name, source.revision))
        wanted = _wanted(files, source)
        folder = Path(_retrying(lambda: snapshot_download(revision=commit, allow_patterns=wanted, **options)))
    except HfHubHTTPError as err:
        raise _refused(name, source, err) from err
    except OSError as err:
        raise DownloadError(
            f"{name}: the hub could not be reached: {err}; a cached copy needs local_files_only=True"
        ) from err
    return ModelSource(name=name, folder=folder, revision=commit)


def _repository(name: str, revision: str | None) -> tuple[str, list[str]]:
    """A repository's commit and file names."""
    from huggingface_hub import HfApi

    info = HfApi().model_info(name, revision=revision, timeout=30)
    return str(info.sha), [sibling.rfilename for sibling in info.siblings or ()]


def _wanted(files: list[str], source: Source) -> list[str]:
    """Of a repository's files those that are needed: settings, tokenizer, and one form of the network."""
    if MANIFEST in files:
        return files
    graph = source.file or next((g for g in (*_GRAPHS, _SHARDS) if g in files), None)
    patterns = [*_CONFIG_FILES]
    if graph is not None:
        # An OpenVINO graph has a .bin, an ONNX one may have *_data, shards have numbers.
        stem = graph.removesuffix(".index.json").rpartition(".")[0]
        patterns += [graph, f"{stem}.bin", f"{graph}_data", f"{graph}.data", f"{stem}-*-of-*.safetensors"]
    return [f for f in files if any(fnmatch.fnmatch(f, p) and f.count("/") == p.count("/") for p in patterns)]


def _retrying(call: Callable[[], Any]) -> Any:  # noqa: ANN401 (what the call returns)
    """Call again after transient faults only, four times at most."""
    from tenacity import (
        Retrying,
        before_sleep_log,
        retry_if_exception,
        stop_after_attempt,
        wait_random_exponential,
    )

    return Retrying(
        retry=retry_if_exception(_transient),
        stop=stop_after_attempt(4),
        wait=wait_random_exponential(multiplier=0.5, max=8),
        before_sleep=before_sleep_log(logger, logging.WARNING),
        reraise=True,
    )(call)


def _transient(error: BaseException) -> bool:
    import httpx

    if isinstance(error, (httpx.TransportError, ConnectionError, TimeoutError)):
        return True
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status is not None and (status == 429 or status >= 500)


def _refused(name: str, source: Source, error: Exception) -> Exception:
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    if isinstance(error, GatedRepoError):
        return DownloadError(f"{name} is gated: accept its terms on the hub, then run: hf auth login")
    if isinstance(error, RepositoryNotFoundError):
        return ModelNotFoundError(
            f"{name}: neither a local folder nor a repository of the hub (private ones need: hf auth login)"
        )
    if isinstance(error, RevisionNotFoundError):
        return ModelNotFoundError(f"{name} has no revision {source.revision!r}")
    return DownloadError(f"{name}: the hub refused: {error}")
