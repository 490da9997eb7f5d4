"""What a build has finished so far, piece by piece, so that one which was stopped or killed goes on from there.

The pieces lie beside the artefacts, in a folder that one build at a time holds. Each is written to another name, synced
and renamed, and begins with a checksum over its place, the inputs of its build and its content: whatever is damaged,
or made from something else, is not there for who looks.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from nimbed._loading.artefact import cache_place
from nimbed._loading.target_lock import target_lock
from nimbed._versions import version_of
from nimbed.errors import ArtefactError, QualityError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from nimbed._loading.build import BuildRequest

    Arrays = dict[str, np.ndarray[Any, np.dtype[Any]]]

ENDING = ".unfinished"
_CHECKSUM_BYTES = 32


@dataclass(frozen=True, kw_only=True)
class Unfinished:
    """The pieces of one build.

    Attributes:
        folder: where they lie; made when the first one is stored.
        inputs: all that the pieces are made from; those of other inputs are not seen.
        part: of the build, before the names of its pieces.
    """

    folder: Path
    inputs: str
    part: str = ""

    def within(self, part: str) -> Unfinished:
        """The pieces of a part of the build."""
        return replace(self, part=f"{self.part}{part}.")

    def load(self, name: str) -> Arrays | None:
        """A piece's arrays; None where it is not there as it was stored."""
        try:
            content = self._path(name).read_bytes()
        except OSError:
            return None
        body = memoryview(content)[_CHECKSUM_BYTES:]
        if self._checksum(name, body) != content[:_CHECKSUM_BYTES]:
            return None
        with np.load(io.BytesIO(body), allow_pickle=False) as arrays:
            return dict(arrays)

    def store(self, name: str, arrays: Arrays) -> None:
        """Put a piece in its place, whole and on the disk.

        Raises:
            ArtefactError: it cannot be written.
        """
        body = io.BytesIO()
        np.savez(body, **arrays)  # type: ignore[arg-type]
        path = self._path(name)
        temporary = path.with_suffix(".tmp")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                file.write(self._checksum(name, body.getbuffer()))
                file.write(body.getbuffer())
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError as err:
            raise ArtefactError(
                f"{path}: a piece of the build cannot be stored: {err}; free or choose another place (NIMBED_HOME)"
            ) from err

    def kept(self, name: str, compute: Callable[[], Arrays]) -> Arrays:
        """A piece's arrays, computed and stored where they are not there."""
        if (found := self.load(name)) is None:
            self.store(name, found := compute())
        return found

    def _path(self, name: str) -> Path:
        return self.folder / f"{self.part}{name}.piece"

    def _checksum(self, name: str, body: memoryview) -> bytes:
        digest = hashlib.blake2b(f"{self.inputs}\0{self.part}{name}\0".encode(), digest_size=_CHECKSUM_BYTES)
        digest.update(body)
        return digest.digest()


def unfinished(request: BuildRequest, kernels: str = "") -> Unfinished:
    """The pieces of the build that a request asks for, whatever its target, by kernels of this kind."""
    place = cache_place(request.name, request.engine, request.precision, request.key)
    inputs = f"{request.key} nimbed {version_of('nimbed')} {kernels}"
    return Unfinished(folder=place.with_name(f"{place.name}{ENDING}"), inputs=inputs)


@contextmanager
def held(request: BuildRequest) -> Iterator[None]:
    """Within it no other process has the build's pieces. They go when it ends well, or when the gate refuses."""
    folder = unfinished(request).folder
    with target_lock(folder):
        try:
            yield
        except QualityError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        shutil.rmtree(folder, ignore_errors=True)
