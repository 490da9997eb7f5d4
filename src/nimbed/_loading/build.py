"""Find or build the artefact of a raw model, in a child process.

The child gives back the memory that quantizing takes, and keeps the build libraries' settings to itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nimbed import errors
from nimbed._files.digests import sha256_of
from nimbed._files.json import forget
from nimbed._files.user_paths import write_whole
from nimbed._loading import child_process
from nimbed._loading.artefact import MANIFEST, Artefact, cache_place, home, is_artefact, open_artefact
from nimbed._loading.manifest import FORMAT, RECIPE, read_outline
from nimbed._loading.progress import LayersDone, shown
from nimbed._model_folder.files import model_files
from nimbed._model_folder.network_file import graph_file
from nimbed._model_folder.weights import check_one_encoder
from nimbed.backends import BACKENDS
from nimbed.errors import BuildError, InputError, QualityError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from nimbed._loading.candidate import Candidate
    from nimbed._loading.hub import Source
    from nimbed._types import ModelSpec, Precision

logger = logging.getLogger("nimbed")

SHORT = 512  # tokens
_BEFOREHAND = (
    "build it beforehand with `nimbed quantize MODEL -o FOLDER` where Python is installed, and give Encoder that folder"
)


@dataclass(frozen=True, kw_only=True)
class QualityGate:
    """How close an int8 artefact must be to fp32, on texts that did not calibrate it; 0 lets anything pass.

    From good texts all-MiniLM-L6-v2 gets 0.9988, 0.997, 0.96 and 0.9989 in OpenVINO; from texts in another language the
    worst cosine is 0.992, and kernels that saturate give a mean of 0.996. The native engine is nearer to fp32.

    Attributes:
        mean_cosine: of the int8 vectors to the fp32 ones, on average.
        min_cosine: of the worst text.
        top10_agreement: share of the ten nearest texts in fp32 that are among the ten nearest in int8.
        rank_correlation: Spearman's, of the similarities of queries to texts.
        kendall_tau: of a cross-encoder's scores to the fp32 ones; the others are those of vectors.
    """

    mean_cosine: float = 0.998
    min_cosine: float = 0.995
    top10_agreement: float = 0.92
    rank_correlation: float = 0.997
    kendall_tau: float = 0.95

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
                raise InputError(f"QualityGate({name}={value!r}): a number from 0 to 1 is wanted")

    def failures(self, measured: Mapping[str, Any]) -> dict[str, float]:
        """The thresholds that these measurements miss, by name."""
        return {name: least for name, least in self.of(measured).items() if measured[name] < least}

    def of(self, measured: Mapping[str, Any]) -> dict[str, float]:
        """The thresholds that apply to these measurements: those of vectors, or of scores."""
        return {name: least for name, least in asdict(self).items() if name in measured}


@dataclass(frozen=True, kw_only=True)
class BuildRequest:
    """All that the child process needs to know.

    Attributes:
        name: hub id or folder name, for the record.
        folder: the model folder.
        revision: commit of the hub repository, or None.
        graph: the network's file, relative to the folder.
        sha256: of the graph and the files that it names.
        settings_sha256: of the model folder's settings.
        spec: pooling and so on.
        precision: of the artefact.
        target: where it goes.
        key: hash over all inputs that change the artefact.
        calibration_file: of texts, or None for those that nimbed ships.
        calibration_sha256: of that file, as it was when the key was made.
        text_field: the key or column of that file that holds the text.
        calibration_count: how many of these texts are used.
        seed: of the choice among them.
        gate: that an int8 artefact must pass.
        force: publish it even if it does not.
        engine: that the artefact is for.
    """

    name: str
    folder: str
    revision: str | None
    graph: str
    sha256: str
    settings_sha256: str
    spec: ModelSpec
    precision: Precision
    target: str
    key: str
    calibration_file: str | None = None
    calibration_sha256: str | None = None
    text_field: str = "text"
    calibration_count: int = 128
    seed: int = 0
    gate: QualityGate = QualityGate()
    force: bool = False
    engine: str = "openvino"


def make_request(
    candidate: Candidate,
    precision: Precision,
    *,
    source: Source,
    target: Path | None = None,
    calibration_file: Path | None = None,
    text_field: str = "text",
    calibration_count: int = 128,
    seed: int = 0,
    gate: QualityGate = QualityGate(),
    force: bool = False,
) -> BuildRequest:
    """A request whose target is the user's choice, or the place in the cache that these inputs have."""
    model, spec, engine = candidate.source, candidate.spec, candidate.engine
    graph = graph_file(model.folder, source.file, BACKENDS[engine])
    inputs = model_files(model.folder, graph, spec)
    check_one_encoder(graph)
    content = _content(calibration_file, text_field)
    relevant = {
        "recipe": RECIPE,
        "engine": engine,
        "weights": inputs.weights_sha256,
        "settings": inputs.settings_sha256,
        "graph": [spec.pooling, spec.normalize, [asdict(d) for d in spec.dense], spec.task, spec.activation],
        "max_length": spec.max_length,
        "precision": precision,
        "calibration": [content, calibration_count, seed],
        "gate": asdict(gate),
        "force": force,
        **({"adapters": dict(spec.adapters)} if spec.adapters else {}),
        **({"template": list(spec.template)} if spec.template else {}),
        **({"answers": list(spec.answers)} if spec.answers else {}),
        **({"long_texts": 1} if longest_text(engine, spec) > SHORT else {}),
    }
    key = hashlib.blake2b(json.dumps(relevant).encode(), digest_size=8).hexdigest()
    place = cache_place(model.name, engine, precision, key)
    return BuildRequest(
        name=model.name,
        folder=str(model.folder),
        revision=model.revision,
        graph=graph.relative_to(model.folder).as_posix(),
        sha256=inputs.weights_sha256,
        settings_sha256=inputs.settings_sha256,
        spec=spec,
        precision=precision,
        target=str(target or place),
        key=key,
        calibration_file=str(calibration_file) if calibration_file else None,
        calibration_sha256=content[0] if content else None,
        text_field=text_field,
        calibration_count=calibration_count,
        seed=seed,
        gate=gate,
        force=force,
        engine=engine,
    )


def longest_text(engine: str, spec: ModelSpec) -> int:
    """Tokens of a text that is made to calibrate or measure; more than SHORT where any length takes the same memory."""
    return max(SHORT, spec.max_length) if BACKENDS[engine].compiled else SHORT


def _content(file: Path | None, field: str) -> list[str] | None:
    return None if file is None else [sha256_of(file), "".join(file.suffixes), field]


def find_or_build(request: BuildRequest, *, progress: bool = True) -> Artefact:
    """The artefact at the request's target; built first where it is missing.

    Raises:
        ArtefactError: it cannot be stored, or what is there is damaged.
        MissingExtraError: building needs a package that is not installed.
        BuildError: the build failed, or no Python was found to build with.
        InputError: the target holds an artefact of something else.
    """
    target = Path(request.target)
    if not is_there(request):
        _build_once(request, target, progress=progress)
        forget(target / MANIFEST)
    artefact = open_artefact(target)
    if artefact.manifest.key != request.key:
        raise InputError(f"{target} holds an artefact made from other inputs; choose another folder, or delete it")
    return artefact


def is_there(request: BuildRequest) -> bool:
    """Whether the target holds an artefact. One of an older format, which nothing opens any more, is built anew.

    Raises:
        ArtefactError: it is damaged.
        InputError: it is an older one of another model.
    """
    target = Path(request.target)
    if not is_artefact(target):
        return False
    old = read_outline(target)
    if old.format is None or not 0 < old.format < FORMAT:
        return True
    if old.model != request.name:
        raise InputError(
            f"{target} holds an artefact of {old.model or 'another model'} in an older format; choose another folder, "
            "or delete it"
        )
    return False


def _build_once(request: BuildRequest, target: Path, *, progress: bool) -> None:
    """A refusal is remembered: the same inputs would be refused again."""
    refusal = target.with_name(f"{target.name}.r{RECIPE}.refused")
    if refusal.is_file():
        raise QualityError(f"{refusal.read_text(encoding='utf-8')} (as found before: {refusal})")
    logger.info("building the %s artefact of %s in %s", request.precision, request.name, target)
    try:
        _run_child(request, progress=progress)
    except QualityError as err:
        if target.parent == home() / "artefacts":
            with contextlib.suppress(OSError):  # then it will be found out again
                target.parent.mkdir(parents=True, exist_ok=True)
                write_whole(refusal, str(err))
        raise


def _run_child(request: BuildRequest, *, progress: bool) -> None:
    """Build in a process of its own.

    Raises:
        BuildError: it could not be started, or failed; other errors of nimbed's are passed on as they are.
        KeyboardInterrupt: says how far it was when it was stopped.
    """
    ends: list[dict[str, Any]] = []
    layers = LayersDone()
    try:
        with _started(request) as child:
            ends += shown(layers.counted(child.reports()), f"{request.name} {request.precision}", bar=progress)
            fault = child.fault()
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"building {request.name} was stopped, and nothing was published; run it again{layers}"
        ) from None
    except OSError as err:
        raise BuildError(f"the process that builds {request.name} could not be run: {err}; {_BEFOREHAND}") from err
    if ends and ends[-1]["kind"] == "error":
        raise getattr(errors, ends[-1]["type"], BuildError)(ends[-1]["message"])
    if not ends:
        raise BuildError(f"building {request.name} {fault or f'ended before it was done; {_BEFOREHAND}'}")


def _started(request: BuildRequest) -> AbstractContextManager[child_process.Child]:
    python = child_process.interpreter()
    if python is None:
        raise BuildError(
            f"building {request.name} needs a Python interpreter, and this program ({sys.executable or 'embedded'}) "
            f"has none that could be started; {_BEFOREHAND}"
        )
    environment = {**os.environ, "NNCF_CI": "1", "TOKENIZERS_PARALLELISM": "false", "NIMBED_HOME": str(home())}
    if os.path.expanduser("~") == "~":  # noqa: PTH111 (which raises)
        environment["HOME"] = str(home())  # NNCF can't be imported without one
    if BACKENDS[request.engine].compiled:
        # Its build divides texts among threads; numpy's own would wait for each other at every small product.
        environment["OPENBLAS_NUM_THREADS"] = "1"
    return child_process.started(
        python,
        "nimbed.quantization.process",
        json.dumps(asdict(request)).encode(),
        path=child_process.import_path(barred=[Path(request.folder)]),
        environment=environment,
        folder=Path(sys.exec_prefix).anchor,  # nothing of it reads what lies in the user's
    )
