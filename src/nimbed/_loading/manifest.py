"""The manifest of an artefact, ``nimbed.json``: its records, how they are written, and how they are read and checked.

It has a checksum of its own, which tells damage. Who changes it on purpose can write another: ``docs/security.md``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypedDict

from nimbed._files.json import read_json
from nimbed._files.names import leads_inside
from nimbed._files.records import record_of
from nimbed._loading.outline import Outline
from nimbed._types import ModelSpec, Precision
from nimbed.backends import BUILT
from nimbed.backends.table import SCRIPT
from nimbed.errors import ArtefactError

FORMAT = 6
# Raised when the same inputs give another artefact, so that those in the cache are not found any more.
RECIPE = 17
MANIFEST = "nimbed.json"
REMEDY = "copy or build the artefact again"
_CHECKSUM = "checksum"
# What the annotations below are written with.
_NAMES = {"Mapping": Mapping, "ModelSpec": ModelSpec, "Precision": Precision}
_MOST = 2**31 - 1  # tokens, or numbers in a vector


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
        repair: of OpenVINO's, what was done because they were not close enough: layers in fp32 and what they cost; None
            where nothing.
        second_pass: of the native engine's, which products round their inputs twice, and what that costs; None where
            none does.
        rotated: whether the native engine's residual stream is in another basis, for its outliers.
        forced: it failed its quality gate and was published all the same.
        versions: of the libraries that built it.
        files: every other file of the folder; ``ranges.npy`` is there where int8 vectors can be had.
        recipe: that it was built by.
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
    second_pass: Mapping[str, Any] | None = None
    rotated: bool = False
    forced: bool = False
    versions: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, FileRecord] = field(default_factory=dict)
    recipe: int = RECIPE
    format: int = FORMAT

    @property
    def digest(self) -> str:
        """Hash over the files' content: equal for every copy of the artefact, whatever its path.

        It holds what opening compares with the files, so that others which pass give another digest.
        """
        content = {name: [r.bytes, r.crc32, r.sha256] for name, r in sorted(self.files.items())}
        return hashlib.blake2b(json.dumps(content).encode(), digest_size=16).hexdigest()


class _Quality(TypedDict):
    """What a quality report has besides its measures, of which each threshold has one."""

    texts: int
    thresholds: Mapping[str, float]
    missed: tuple[str, ...]


class _Repair(TypedDict):
    """What is said of a repair."""

    before: Mapping[str, Any]
    accuracy_control: str
    fp32_layers: tuple[str, ...]
    latency_ratio: float | None
    latency: str


class _SecondPass(TypedDict):
    """What is said of second passes."""

    products: tuple[str, ...]
    error_before: float
    error_after: float
    multiplications: float


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write ``nimbed.json``; the manifest must list the folder's files."""
    values = json.loads(json.dumps(asdict(manifest)))
    text = json.dumps({**values, _CHECKSUM: _checksum(values)}, indent=2, ensure_ascii=False)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")


def read_manifest(folder: Path) -> Manifest:
    """The manifest alone, checked by itself, without a look at the other files.

    Raises:
        ArtefactError: it is missing, foreign, of another version's format (says how it is built again), damaged, or
            says what cannot be.
    """
    path = folder / MANIFEST
    values = _values(path)
    _check_format(path, values)
    if values.pop(_CHECKSUM, None) != _checksum(values):
        raise ArtefactError(f"{path} is damaged: its {_CHECKSUM} is not that of its content; {REMEDY}")
    try:
        manifest = record_of(Manifest, values, _NAMES)
        _check_names(manifest)
        _check_numbers(manifest)
        _check_reports(manifest)
    except ValueError as err:
        raise ArtefactError(f"{path}: {err}; {REMEDY}") from err
    return manifest


def read_outline(folder: Path) -> Outline:
    """What a manifest of any format says; nothing of it is checked.

    Raises:
        ArtefactError: it is missing, or no JSON.
    """
    return Outline.of(_values(folder / MANIFEST))


def _values(path: Path) -> dict[str, Any]:
    return dict(read_json(path, error=ArtefactError, remedy=f"this is no nimbed artefact, or damaged: {REMEDY}"))


def _checksum(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _check_format(path: Path, values: Mapping[str, Any]) -> None:
    """Before the checksum, of which another format may have another kind."""
    outline = Outline.of(values)
    if outline.format is None or outline.format < 1:
        raise ArtefactError(f"{path}: format is missing: this is no nimbed artefact")
    if outline.format > FORMAT:
        raise ArtefactError(
            f"{path}: format {outline.format} is newer than this nimbed reads ({FORMAT}); pip install -U nimbed"
        )
    if outline.format < FORMAT:
        raise ArtefactError(
            f"{path}: format {outline.format} is older than this nimbed reads ({FORMAT}); "
            f"{outline.rebuilding(_place(path.parent, outline))}"
        )


def _place(folder: Path, outline: Outline) -> Path:
    """Its own; the hub's cache is not for us to write to."""
    if folder.parent.name != "snapshots":
        return folder
    return Path(f"{outline.model.rpartition('/')[2]}-{outline.engine}-{outline.precision}")


def _check_names(manifest: Manifest) -> None:
    """That all that will be read is listed, and nothing leads out of the folder."""
    if (engine := BUILT.get(manifest.engine)) is None:
        raise ValueError(f"engine is {manifest.engine!r}, not one of {', '.join(BUILT)}")
    for name in manifest.files:
        if not leads_inside(name) or name == MANIFEST:
            raise ValueError(f"files: {name!r} is no name within the folder")
    dense = [layer.weights for layer in manifest.spec.dense if SCRIPT in engine.files]
    for name in ("tokenizer.json", *engine.files, *dense):
        if name not in manifest.files:
            raise ValueError(f"files: {name} is not listed, and {manifest.engine} reads it")


def _check_numbers(manifest: Manifest) -> None:
    spec = manifest.spec
    widths = [n for layer in spec.dense for n in (layer.in_features, layer.out_features)]
    for number in (spec.hidden_size, spec.dim, spec.max_length, spec.positions or 1, *widths):
        if not 0 < number <= _MOST:
            raise ValueError(f"spec: {number} is no number of tokens or components")
    for name, record in manifest.files.items():
        if min(record.bytes, record.crc32) < 0:
            raise ValueError(f"files.{name}: a size or CRC-32 below 0")


def _check_reports(manifest: Manifest) -> None:
    """That the reports have what is shown of them."""
    if manifest.quality is not None:
        report = record_of(_Quality, manifest.quality, _NAMES, "quality")
        if unknown := set(report["missed"]) - report["thresholds"].keys():
            raise ValueError(f"quality.missed: {min(unknown)} is none of its thresholds")
        if unknown := {n for n in report["thresholds"] if type(manifest.quality.get(n)) not in {int, float}}:
            raise ValueError(f"quality.{min(unknown)} is no number")
    if manifest.second_pass is not None:
        record_of(_SecondPass, manifest.second_pass, _NAMES, "second_pass")
    if manifest.repair is not None:
        record_of(_Repair, manifest.repair, _NAMES, "repair")
