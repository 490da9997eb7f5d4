"""Where a model comes from: a local folder, or a repository of the Hugging Face hub, pinned to a commit."""

from __future__ import annotations

import logging
import re
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nimbed._files.user_paths import expanded
from nimbed._loading.repository_files import matching, named_files_of, needed_files
from nimbed.errors import DownloadError, InputError, ModelNotFoundError, NimbedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from os import PathLike

__all__ = ["ModelSource", "Source", "resolve"]

logger = logging.getLogger("nimbed")

_CLIENTS = re.compile(r"(requests|urllib3|httpx\d*|httpcore\d*)(\.|$)")
_LOG_IN = "hf auth login, or HF_TOKEN in the environment"
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where and how to find a model.

    Attributes:
        revision: branch, tag or commit of a hub repository; None is its main branch. The commit is recorded.
        local_files_only: never touch the network (HF_HUB_OFFLINE=1 does the same).
        cache_folder: the hub's download cache; None is the hub's own default.
        file: the network's file, relative to the model folder, such as
            "openvino/openvino_model_qint8_quantized.xml"; None takes safetensors or pytorch_model.bin, in this order,
            and for OpenVINO before these an OpenVINO or an ONNX file.
        allow_code: run a TorchScript file that nimbed did not write on this machine (backend="ipex"). TorchScript is
            code: allow it only if you trust its author.
    """

    revision: str | None = None
    local_files_only: bool = False
    cache_folder: str | None = None
    file: str | None = None
    allow_code: bool = False

    def __post_init__(self) -> None:
        kinds: dict[str, Any] = {"revision": (str, type(None)), "file": (str, type(None))}
        for name, kind in {**kinds, "local_files_only": bool, "allow_code": bool}.items():
            if not isinstance(value := getattr(self, name), kind):
                wanted = "True or False" if kind is bool else "a string, or None"
                raise InputError(f"Source({name}={value!r}) must be {wanted}")


@dataclass(frozen=True, kw_only=True)
class ModelSource:
    """A model's files on this machine.

    Attributes:
        name: the hub id, or the folder's name.
        folder: where its files are.
        revision: the commit, for a hub repository.
        files: all that the hub's repository has, where the hub was asked.
    """

    name: str
    folder: Path
    revision: str | None = None
    files: tuple[str, ...] = field(default=(), compare=False, repr=False)


def resolve(model: str | PathLike[str], source: Source, engine: str = "openvino") -> ModelSource:
    """Find a model's folder, downloading what the engine needs of a hub repository.

    Raises:
        ModelNotFoundError: there is no such folder or repository.
        DownloadError: the hub could not be reached after bounded retries, or refused.
    """
    folder, name = expanded(model), str(model)
    if name and folder.is_dir():
        return ModelSource(name=_local_name(folder), folder=folder.resolve())
    if folder.exists() or not _HUB_ID.fullmatch(name) or name.startswith(".") or re.search(r"--|\.\.|[.-]$", name):
        raise ModelNotFoundError(f"{name or '(no name)'}: neither a folder nor a hub id (owner/name)")
    if "/" not in name:
        # The short names that sentence-transformers' documentation uses.
        name = f"sentence-transformers/{name}"
    return _from_hub(name, source, engine)


def _local_name(folder: Path) -> str:
    """A folder's name; inside the hub's cache, the hub id."""
    for part in folder.resolve().parts:
        if part.startswith("models--"):
            return part.removeprefix("models--").replace("--", "/")
    return folder.resolve().name


def _from_hub(name: str, source: Source, engine: str) -> ModelSource:
    from huggingface_hub import constants

    options = _options(name, source, source.revision)
    if source.local_files_only or constants.HF_HUB_OFFLINE:
        return _from_cache(name, options)
    with _explaining(name, source):
        files = tuple(_retrying(lambda: _files(name, source.revision)))
        # By the user's name for the revision, not by its commit: only so is the name found again offline.
        folder = _fetched(needed_files(name, files, source, engine), options)
    found = ModelSource(name=name, folder=folder, revision=folder.name, files=files)
    fetch_network(found, source, engine)
    return found


def fetch_network(found: ModelSource, source: Source, engine: str) -> None:
    """Download what the engine still needs of a hub repository, at the commit that was found. Raises as resolve."""
    if not found.files:  # a local folder, or no network
        return
    with _explaining(found.name, source):
        _complete(found, source, needed_files(found.name, found.files, source, engine))
        _complete(found, source, named_files_of(found.folder, found.files, source, engine))


def _complete(found: ModelSource, source: Source, wanted: Sequence[str]) -> None:
    if lacking := [file for file in wanted if not (found.folder / file).is_file()]:
        _fetched(lacking, _options(found.name, source, found.revision))


def _options(name: str, source: Source, revision: str | None) -> dict[str, Any]:
    return {"repo_id": name, "revision": revision, "cache_dir": _cache_folder(source)}


def _fetched(files: Sequence[str], options: dict[str, Any]) -> Path:
    from huggingface_hub import snapshot_download

    return Path(_retrying(lambda: snapshot_download(allow_patterns=list(files), **options)))


@contextmanager
def _explaining(name: str, source: Source) -> Iterator[None]:
    try:
        yield
    except NimbedError:
        raise
    except Exception as err:
        raise _explained(name, source, err) from err


def _cache_folder(source: Source) -> str:
    """The download cache; where no home folder is known, huggingface_hub makes one that is called ~."""
    from huggingface_hub import constants

    return str(expanded(source.cache_folder or constants.HF_HUB_CACHE, "set HF_HOME, or Source(cache_folder=...)"))


def _from_cache(name: str, options: dict[str, Any]) -> ModelSource:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    how = f"offline mode forbids the network; fetch it once online: hf download {name}"
    try:
        folder = Path(snapshot_download(local_files_only=True, **options))
    except LocalEntryNotFoundError as err:
        # From 2.0 on a snapshot counts as incomplete without every file of the repository.
        if (known := getattr(err, "snapshot_path", None)) is None:
            raise ModelNotFoundError(f"{name} is not in the download cache, and {how}") from err
        folder = Path(known)
    except (HFValidationError, OSError, ValueError) as err:
        raise ModelNotFoundError(f"{name}: neither a folder nor a hub id (owner/name): {err}") from err
    if missing := [file for file in _settings_of(options) if not (folder / file).is_file()]:
        raise ModelNotFoundError(f"{name} is in the download cache without {', '.join(missing)}, and {how}")
    return ModelSource(name=name, folder=folder, revision=folder.name)


def _settings_of(options: dict[str, Any]) -> list[str]:
    """Names of a repository's settings, where huggingface_hub remembers them: from 2.0 on."""
    try:
        from huggingface_hub import get_cached_repo_tree
        from huggingface_hub.errors import CachedRepoTreeNotFoundError
    except ImportError:
        return []
    try:
        files = [file.path for file in get_cached_repo_tree(**options)]
    except (OSError, CachedRepoTreeNotFoundError):  # fetched by an older one
        return []
    return matching(files, ("*.json", "[0-9]*/config.json"))


def _files(name: str, revision: str | None) -> list[str]:
    from huggingface_hub import HfApi

    info = HfApi().model_info(name, revision=revision, timeout=30)
    return [sibling.rfilename for sibling in info.siblings or ()]


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
    error = _root(error)
    if (status := _status(error)) is not None:
        return status in {408, 429} or status >= 500
    # huggingface_hub speaks through requests, from 1.0 on through httpx, from 2.0 on through httpx2; after a fault it
    # closes the client that its other threads still use, which is a bare RuntimeError.
    of_client = any(_CLIENTS.match(kind.__module__) for kind in type(error).__mro__)
    return of_client or isinstance(error, (ConnectionError, TimeoutError)) or "client has been closed" in str(error)


def _root(error: BaseException) -> BaseException:
    """Why the hub could not be asked, where huggingface_hub complains that there is no copy on disk either."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    return error.__cause__ or error if isinstance(error, LocalEntryNotFoundError) else error


def _status(error: BaseException) -> int | None:
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def _explained(name: str, source: Source, error: BaseException) -> NimbedError:
    """An error of huggingface_hub in nimbed's words."""
    error = _root(error)
    if _status(error) is not None:
        return _refused(name, source, error)
    if _transient(error):
        return DownloadError(
            f"{name}: the hub could not be reached: {error}; its cache is used with Source(local_files_only=True)"
        )
    if isinstance(error, OSError):
        return DownloadError(
            f"{name}: the download could not be stored: {error}; free its place or choose another "
            "(Source(cache_folder=...), or HF_HOME)"
        )
    return DownloadError(f"{name}: the download failed: {type(error).__name__}: {error}")


def _refused(name: str, source: Source, error: BaseException) -> NimbedError:
    from huggingface_hub import constants
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    if isinstance(error, GatedRepoError):
        return DownloadError(
            f"{name} is gated: accept its terms on {constants.ENDPOINT}/{name} with your account, then give a token of "
            f"that account: {_LOG_IN}"
        )
    if isinstance(error, RepositoryNotFoundError) or _status(error) == 401:
        what = f"neither a local folder nor a repository of the hub (private and gated ones need a token: {_LOG_IN})"
        return ModelNotFoundError(f"{name}: {what}")
    if isinstance(error, RevisionNotFoundError):
        return ModelNotFoundError(f"{name} has no revision {source.revision!r}")
    token = f"; the token may lack the right to read it: {_LOG_IN}" if _status(error) == 403 else ""
    return DownloadError(f"{name}: the hub refused: {error}{token}")
