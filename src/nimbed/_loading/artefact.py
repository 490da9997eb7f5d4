"""The optimised model folder: one engine, one precision, immutable.

It holds the engine's files, ``tokenizer.json`` and the manifest ``nimbed.json``, which names every file with its size,
sha256 and CRC-32, and has a checksum of its own. It is written to a temporary folder beside its place and renamed, so
there is never half of one. What is defended against whom: ``docs/security.md``.
"""

from __future__ import annotations

import glob
import os
import secrets
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from nimbed._files.digests import Unchanged, crc32_of, sha256_of
from nimbed._files.names import stays_within
from nimbed._files.user_paths import home
from nimbed._loading.manifest import MANIFEST, REMEDY, FileRecord, Manifest, read_manifest
from nimbed.errors import ArtefactError, NimbedError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["MANIFEST", "Artefact", "Manifest", "home", "is_artefact", "open_artefact", "verify_artefact"]

# A file of these kinds that is not listed might be read all the same.
_KINDS = {".bin", ".json", ".npy", ".pt", ".safetensors", ".xml"}


@dataclass(frozen=True, kw_only=True)
class Artefact:
    """An artefact on disk. Where a path is wanted, it stands for its folder."""

    folder: Path
    manifest: Manifest
    unchanged: Unchanged = field(compare=False, repr=False)

    def __fspath__(self) -> str:
        return str(self.folder)


def cache_place(name: str, engine: str, precision: str, key: str) -> Path:
    """Where in the cache folder the artefact of a model lies that is made from the inputs of this key."""
    return home() / "artefacts" / f"{name.replace('/', '--')}-{engine}-{precision}-{key}"


def is_artefact(folder: Path) -> bool:
    """Whether a folder claims to be an artefact."""
    return (folder / MANIFEST).is_file()


def open_artefact(folder: Path, manifest: Manifest | None = None) -> Artefact:
    """Check every file against the manifest, which is read first where the caller has not: size and CRC-32 tell damage.

    Raises:
        ArtefactError: the folder is foreign, of another version's format, incomplete or damaged.
    """
    manifest = manifest or read_manifest(folder)
    try:
        check_files(folder, manifest)
        unchanged = Unchanged.of(folder / name for name in manifest.files)
        for name, record in manifest.files.items():
            if crc32_of(folder / name) != record.crc32:
                raise ArtefactError(f"{folder / name} is damaged: its CRC-32 is not that in {MANIFEST}; {REMEDY}")
    except OSError as err:
        if isinstance(err, NimbedError):
            raise
        raise ArtefactError(f"{folder} cannot be read: {err}; {REMEDY}") from err
    return Artefact(folder=folder, manifest=manifest, unchanged=unchanged)


def check_files(folder: Path, manifest: Manifest) -> None:
    """Compare the folder with the manifest without reading a file.

    Raises:
        ArtefactError: a file is missing, too many, of another size or a link that leads out.
        OSError: the folder cannot be read.
    """
    _refuse_strangers(folder, manifest)
    for name, record in manifest.files.items():
        if (fault := _fault(folder, name, record)) is not None:
            raise ArtefactError(f"{folder / name} {fault}; {REMEDY}")


def verify_artefact(folder: Path) -> Artefact:
    """Open an artefact and check every file's sha256 too, which tells who changed one on purpose.

    The manifest is taken at its word: whoever can write it can write other hashes. They give
    another ``manifest.digest`` then: compare it with that of a copy that you trust.

    Raises:
        ArtefactError: as :func:`open_artefact`, and where a file's sha256 is not that of the manifest.
    """
    artefact = open_artefact(folder)
    for name, record in artefact.manifest.files.items():
        if sha256_of(folder / name) != record.sha256:
            raise ArtefactError(
                f"{folder / name} is not the file that was built, though its size and CRC-32 are: its sha256 is not "
                f"that in {MANIFEST}; {REMEDY}"
            )
    artefact.unchanged.check(replaced=False)
    return artefact


def _fault(folder: Path, name: str, record: FileRecord) -> str | None:
    """What is wrong with a file besides its content, or None."""
    path = folder / name
    if not path.is_file():
        return f"is missing, but {MANIFEST} lists it"
    if not stays_within(folder, path):
        return "is a link that leads out of the artefact"
    if (size := path.stat().st_size) != record.bytes:
        return f"has {size} bytes, {MANIFEST} says {record.bytes}"
    return None


def _refuse_strangers(folder: Path, manifest: Manifest) -> None:
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in name.parts)
        if path.suffix in _KINDS and not hidden and name.as_posix() not in {MANIFEST, *manifest.files}:
            raise ArtefactError(f"{path} is no part of the artefact: {MANIFEST} does not list it; delete it")


def file_records(folder: Path) -> dict[str, FileRecord]:
    """Records of all files in a folder but the manifest."""
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST)
    return {name: _record(folder / name) for name in names}


def _record(path: Path) -> FileRecord:
    return FileRecord(bytes=path.stat().st_size, sha256=sha256_of(path), crc32=crc32_of(path))


@contextmanager
def staging(target: Path) -> Iterator[Path]:
    """A temporary folder beside ``target`` that takes its place when the block ends well, and vanishes otherwise.

    An artefact that is there gives way.

    Raises:
        ArtefactError: the place cannot be written, is full, or is taken by something else.
    """
    if is_artefact(target):
        target = target.resolve()  # a link to one stays
    temporary: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # mkdtemp's names have eight characters; more would belong to a target like "name.v2".
        for left in target.parent.glob(f".{glob.escape(target.name)}.????????.tmp"):
            shutil.rmtree(left, ignore_errors=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent))
        # mkdtemp makes it for this user alone; an artefact may be read by all whom the umask allows.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o777 & ~umask)
        yield temporary
        with _moved_aside(target):
            temporary.replace(target)
    except OSError as err:
        if isinstance(err, NimbedError):
            raise
        raise ArtefactError(
            f"{target}: the artefact cannot be stored: {err}; free or choose another place (out=..., or NIMBED_HOME)"
        ) from err
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def _moved_aside(target: Path) -> Iterator[None]:
    """Without the artefact in a place; it comes back if the block fails, and is gone otherwise."""
    if not is_artefact(target):
        yield
        return
    aside = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    target.rename(aside)
    try:
        yield
    except BaseException:
        aside.rename(target)
        raise
    shutil.rmtree(aside, ignore_errors=True)
