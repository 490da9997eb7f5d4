"""From a model folder to an artefact: export, calibrate, quantize, measure, publish.

``_process`` is what the build process runs that :func:`quantize` and :class:`nimbed.Encoder` start.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from nimbed._files.json import reading_once
from nimbed._files.user_paths import expanded
from nimbed._loading.artefact import Artefact, verify_artefact
from nimbed._loading.auto import no_such_precision, with_its_engine
from nimbed._loading.build import QualityGate, find_or_build, make_request
from nimbed._loading.candidate import Candidate, find
from nimbed._loading.hub import Source
from nimbed._loading.settings import Settings
from nimbed._text.checks import check_model, check_texts, check_whole
from nimbed.backends import BUILT
from nimbed.errors import InputError
from nimbed.spec import SpecOverrides

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike

    from nimbed._types import Precision

__all__ = ["Artefact", "Calibration", "QualityGate", "quantize", "verify_artefact"]


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Which texts int8 is fitted to: the ranges of OpenVINO's activations, the rounding of the native engine's weights.

    Attributes:
        texts: your own texts, or a file of them: ``.jsonl``, ``.csv``, ``.tsv``, ``.parquet`` (extra "parquet") or
            ``.txt``, also ``.gz`` and ``.zst``. None takes those that nimbed ships, in English and Chinese. Texts like
            those that you will embed are best.
        text_field: the key or column of the file that holds the text.
        count: how many texts are used, chosen by length; each whole and as a short excerpt.
        seed: the seed of that choice.
    """

    texts: Sequence[str] | str | PathLike[str] | None = None
    text_field: str = "text"
    count: int = 128
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("count", 1), ("seed", 0)):
            check_whole(getattr(self, name), f"Calibration: {name}", minimum=least)


@reading_once()
def quantize(
    model: str | PathLike[str],
    out: str | PathLike[str] | None = None,
    *,
    precision: Precision = "int8",
    calibration: Calibration | Sequence[str] | None = None,
    spec: SpecOverrides | None = None,
    source: Source | None = None,
    gate: QualityGate | None = None,
    force: bool = False,
    progress: bool = True,
    backend: str = "auto",
) -> Artefact:
    """Turn a model folder or hub model into an artefact, in a child process.

    Args:
        model: hub id or model folder. For OpenVINO, graphs in it are used before safetensors.
        out: the artefact's folder; None is its place in the cache, where :class:`nimbed.Encoder` finds it.
        precision: "int8" or "fp32".
        calibration: texts that int8 is fitted to, and for the ranges of the vectors' components; None uses an extract
            that nimbed ships. An fp32 artefact has ranges (for ``dtype="int8"``) only where texts are given.
        spec: pooling, prompts, normalize and task in place of what the model folder says.
        source: revision, file, download cache and offline settings.
        gate: how close int8 must be to fp32. None takes the default thresholds.
        force: publish the artefact even if it fails its gate; its manifest says so for good, and Encoder warns.
        progress: show a progress bar on standard error.
        backend: the engine that the artefact is for; "auto" takes the one that :class:`nimbed.Encoder` would take, and
            for fp32 "openvino": "native" has none in fp32, since it reads the model folder itself. "ipex" has int8
            only, and its artefacts are code: they run where they were built, and elsewhere with
            ``Source(allow_code=True)``.

    Returns:
        The artefact, with its manifest; give it to ``Encoder``. An artefact that exists already is returned as it is.

    Raises:
        ModelNotFoundError: there is no such model.
        SpecError: the folder says something that cannot be honoured.
        MissingExtraError: a package is missing; the message has the command.
        ArtefactError: the artefact cannot be stored.
        BuildError: the build failed.
        QualityError: int8 is too far from fp32; nothing was published.
    """
    _check_kind(precision, backend)
    settings = Settings(
        model=check_model(model),
        # The native engine needs no artefact for fp32: it reads the model folder.
        backend="openvino" if backend == "auto" and precision == "fp32" else backend,
        precision=precision,
        spec=spec or SpecOverrides(),
        source=source or Source(),
    )
    found = _model_folder(settings)
    chosen = calibration if isinstance(calibration, Calibration) else Calibration(texts=calibration)
    with tempfile.TemporaryDirectory(prefix="nimbed-") as folder:
        request = partial(
            make_request,
            precision=precision,
            source=settings.source,
            target=expanded(out).absolute() if out is not None else None,
            calibration_file=_calibration_file(chosen, Path(folder)),
            text_field=chosen.text_field,
            calibration_count=chosen.count,
            seed=chosen.seed,
            gate=gate or QualityGate(),
            force=force,
        )
        return with_its_engine(found, settings, lambda one: find_or_build(request(one), progress=progress))


def _model_folder(settings: Settings) -> Candidate:
    """The model, which must be no artefact."""
    found = find(settings)
    if found.manifest is not None:
        raise InputError(f"{found.source.folder} is an artefact already; quantize the model that it was made from")
    return found


def _check_kind(precision: str, backend: str) -> None:
    if precision not in {"int8", "fp32"}:
        raise InputError(f'precision={precision!r} is not one of "int8", "fp32"')
    if backend == "auto":
        return
    if (record := BUILT.get(backend)) is None:
        raise InputError(f"backend={backend!r} has no artefacts; {', '.join(BUILT)} have")
    if precision not in record.precisions:
        raise no_such_precision(precision, record)
    if precision not in record.built:
        raise InputError(
            f'precision={precision!r}: backend="{backend}" needs no artefact for it; give Encoder the model'
        )


def _calibration_file(calibration: Calibration, folder: Path) -> Path | None:
    """The user's file, or one written from the user's texts."""
    texts = calibration.texts
    if texts is None:
        return None
    if isinstance(texts, str) or hasattr(texts, "__fspath__"):
        path = expanded(texts).absolute()
        if not path.is_file():
            why = "is read twice, so it must be a file and no pipe" if path.exists() else "does not exist"
            raise InputError(f"calibration file {path} {why}")
        return path
    path = folder / "calibration.jsonl"
    path.write_text("".join(json.dumps({"text": t}) + "\n" for t in check_texts(texts)), encoding="utf-8")
    if path.stat().st_size == 0:
        raise InputError("calibration needs at least one text, got an empty list")
    return path
