"""The optimised model folder: one engine, one precision, immutable.

It holds the engine's files, ``tokenizer.json`` and the manifest ``nimbed.json``, which names every file with its size,
sha256 and CRC-32. It is written to a temporary folder beside its place and renamed, so there is never half of one.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import shutil
import tempfile
import zlib
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nimbed._places import home
from nimbed.errors import ArtefactError, NimbedError
from nimbed.spec import spec_from_dict

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from nimbed._types import ModelSpec, Precision

__all__ = ["MANIFEST", "Artefact", "Manifest", "home", "is_artefact", "open_artefact"]

FORMAT = 1
MANIFEST = "nimbed.json"
# IPEX's network.
SCRIPT = "model.pt"


@dataclass(frozen=True, kw_only=True)
class SourceRecord:
    """What an artefact was made from.

    Attributes:
        id: hub id or folder name.
        revision: commit of the hub repository, or None.
        file: the network's file within the model folder.
        sha256: of that file (and the ``.bin`` of an OpenVINO graph).
    """

    id: str
    revision: str | None
    file: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class FileRecord:
    """One file.

    Attributes:
        bytes: its size.
        sha256: says which file it is; fingerprints stand on it.
        crc32: of IEEE 802.3, says at every opening that the file is not damaged. Without SHA instructions the sha256
            of a network takes longer than the rest of the opening.
    """

    bytes: int
    sha256: str
    crc32: int


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Content of ``nimbed.json``.

    Attributes:
        engine: the backend that runs it.
        precision: "int8" or "fp32".
        source: what it was made from.
        spec: pooling, prompts, lengths.
        key: hash over all inputs of the build.
        calibration: origin, sha256 of the texts, count and seed; None where nothing was calibrated.
        quality: how close its outputs are to the fp32 ones, as measured when it was built, and the thresholds.
        repair: what was done because they were not close enough: layers in fp32 and what they cost; None where nothing.
        forced: it failed its quality gate and was published all the same.
        versions: of the libraries that built it.
        files: every other file of the folder; ``ranges.npy`` is there where int8 vectors can be had.
        format: of this manifest.
    """

    engine: str
    precision: Precision
    source: SourceRecord
    spec: ModelSpec
    key: str
    calibration: Mapping[str, Any] | None = None
    quality: Mapping[str, Any] | None = None
    repair: Mapping[str, Any] | None = None
    forced: bool = False
    versions: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, FileRecord] = field(default_factory=dict)
    format: int = FORMAT

    @property
    def digest(self) -> str:
        """Hash over the files' content: equal for every copy of the artefact, whatever its path."""
        content = {name: record.sha256 for name, record in sorted(self.files.items())}
        return hashlib.blake2b(json.dumps(content).encode(), digest_size=16).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Artefact:
    """An artefact on disk. Where a path is wanted, it stands for its folder."""

    folder: Path
    manifest: Manifest

    def __fspath__(self) -> str:
        return str(self.folder)


def is_artefact(folder: Path) -> bool:
    """Whether a folder claims to be an artefact."""
    return (folder / MANIFEST).is_file()


def open_artefact(folder: Path) -> Artefact:
    """Read the manifest and check every file against it.

    Raises:
        ArtefactError: the folder is foreign, newer than this version, incomplete or damaged.
    """
    manifest = read_manifest(folder)
    for name, record in manifest.files.items():
        try:
            fault = _fault(folder / name, record)
        except OSError as err:
            raise ArtefactError(f"{folder / name} cannot be read: {err}") from err
        if fault is not None:
            raise ArtefactError(f"{folder / name} {fault}; copy or build the artefact again")
    return Artefact(folder=folder, manifest=manifest)


def _fault(path: Path, record: FileRecord) -> str | None:
    """What is wrong with a file, or None."""
    if not path.is_file():
        return f"is missing, but {MANIFEST} lists it"
    if (size := path.stat().st_size) != record.bytes:
        return f"has {size} bytes, {MANIFEST} says {record.bytes}"
    return None if crc32_of(path) == record.crc32 else f"is damaged: its CRC-32 is not that in {MANIFEST}"


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write ``nimbed.json``; the manifest must list the folder's files."""
    text = json.dumps(asdict(manifest), indent=2, ensure_ascii=False)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")


def file_records(folder: Path) -> dict[str, FileRecord]:
    """Records of all files in a folder but the manifest."""
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST)
    return {name: _record(folder / name) for name in names}


def _record(path: Path) -> FileRecord:
    return FileRecord(bytes=path.stat().st_size, sha256=sha256_of(path), crc32=crc32_of(path))


@contextmanager
def staging(target: Path) -> Iterator[Path]:
    """A temporary folder beside ``target`` that takes its place when the block ends well, and vanishes otherwise.

    Raises:
        ArtefactError: the place cannot be written, is full, or is taken by something else.
    """
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


def sha256_of(*paths: Path) -> str:
    """sha256 of the files' bytes, one after another."""
    digest = hashlib.sha256()
    for path in paths:
        for block in _blocks(path):
            digest.update(block)
    return digest.hexdigest()


def crc32_of(path: Path) -> int:
    """CRC-32 of a file's bytes."""
    crc = 0
    for block in _blocks(path):
        crc = zlib.crc32(block, crc)
    return crc


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            yield block


def read_manifest(folder: Path) -> Manifest:
    """The manifest alone, without a look at the other files. Raises as :func:`open_artefact`."""
    path = folder / MANIFEST
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as err:
        raise ArtefactError(f"{path} is missing: this folder is no nimbed artefact") from err
    except (OSError, ValueError) as err:
        raise ArtefactError(f"{path} cannot be read: {err}; copy or build the artefact again") from err
    number = values.get("format") if isinstance(values, dict) else None
    if not isinstance(number, int) or number < 1:
        raise ArtefactError(f"{path}: format is missing: this is no nimbed artefact")
    if number > FORMAT:
        raise ArtefactError(
            f"{path}: format {number} is newer than this nimbed reads ({FORMAT}); pip install -U nimbed"
        )
    try:
        parts = {
            "source": SourceRecord(**values["source"]),
            "spec": spec_from_dict(values["spec"]),
            "files": {name: FileRecord(**record) for name, record in values["files"].items()},
        }
        return Manifest(**{**values, **parts})
    except (KeyError, TypeError, AttributeError) as err:
        raise ArtefactError(f"{path}: {err}: the manifest is incomplete; build the artefact again") from err
