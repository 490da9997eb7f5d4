"""Settings in, an opened engine out: where each ``auto`` is decided, and its reason kept."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from nimbed import _machine
from nimbed._build import find_or_build, make_request
from nimbed._hub import ModelSource, Source, graph_file, resolve
from nimbed._pairs import PairTokenizer
from nimbed._settings import EncoderInfo, Settings
from nimbed._tokenize import TextTokenizer, load_tokenizer
from nimbed._types import OpenRequest
from nimbed.artefact import Artefact, is_artefact, open_artefact, read_manifest, sha256_of
from nimbed.backends import open_backend
from nimbed.errors import InputError, ModelNotFoundError, SpecError
from nimbed.spec import read_spec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nimbed._types import Backend, ModelSpec, Precision, Task


_TOKENIZERS: Mapping[Task, type[TextTokenizer | PairTokenizer]] = {
    "embedding": TextTokenizer,
    "scoring": PairTokenizer,
}


@dataclass(frozen=True, kw_only=True)
class Engine:
    """An opened backend with the tokenizer and the spec that go with it.

    ``normalize_after`` tells that vectors must still be normalised, since the graph does not do it.
    ``vector_fingerprint`` is that of a vector of full width, whatever the prompt.
    """

    backend: Backend
    tokenizer: TextTokenizer | PairTokenizer
    spec: ModelSpec
    info: EncoderInfo
    normalize_after: bool
    vector_fingerprint: str


@dataclass(frozen=True, kw_only=True)
class _Located:
    """A folder that a backend can open."""

    source: ModelSource
    folder: Path
    spec: ModelSpec
    precision: Precision
    digest: str
    tokenizer: Any
    reasons: dict[str, str]
    quality: Mapping[str, Any] | None = None


def open_engine(settings: Settings) -> Engine:
    """Resolve the model, find or build its artefact, open the backend."""
    backend, backend_reason = choose_backend(settings.backend)
    located = _locate(settings, backend)
    spec = settings.spec.apply_prompts(located.spec)
    max_length = _max_length(settings, spec)
    plan = _machine.thread_plan(settings.threads)
    # The engine's buckets follow the length that is really used.
    request = OpenRequest(
        folder=located.folder,
        spec=replace(spec, max_length=max_length),
        precision=located.precision,
        threads=plan.threads,
    )
    normalize = _normalize(settings, spec, located.folder)
    tokenizer = _TOKENIZERS[spec.task](located.tokenizer, spec, max_length=max_length, truncate=settings.truncate)
    opened = open_backend(backend, request)
    info = EncoderInfo(
        model=located.source.name,
        revision=located.source.revision,
        backend=backend,
        backend_version=opened.version,
        precision=located.precision,
        instruction_set=_machine.cpu().instruction_set,
        threads=plan.threads,
        dim=_dim(settings, spec),
        max_length=max_length,
        truncate=settings.truncate,
        pooling=spec.pooling,
        normalize=normalize,
        prompts=dict(spec.prompts),
        similarity=spec.similarity,
        artefact=str(located.folder),
        quality=located.quality,
        fingerprint="",
        reasons={
            **spec.origins,
            "backend": backend_reason,
            "threads": plan.reason,
            **located.reasons,
            **opened.reasons,
        },
    )
    info = replace(info, fingerprint=_fingerprint(info, spec, located.digest))
    return Engine(
        backend=opened,
        tokenizer=tokenizer,
        spec=spec,
        info=info,
        normalize_after=normalize and not spec.normalize,
        vector_fingerprint=_fingerprint(replace(info, dim=spec.dim, prompts={}), spec, located.digest),
    )


def choose_backend(requested: str) -> tuple[str, str]:
    """The engine and the reason for it."""
    if requested != "auto":
        return requested, "set by the user"
    return "openvino", "the fastest engine here that needs no torch"


def choose_precision(requested: Precision | Literal["auto"]) -> tuple[Precision, str]:
    """int8 where the CPU has the instructions for it, fp32 elsewhere; the user's word goes before."""
    if requested != "auto":
        return requested, "set by the user"
    cpu = _machine.cpu()
    if cpu.fast_int8:
        return "int8", f"{cpu.instruction_set} multiplies int8 fast and without overflow"
    return (
        "fp32",
        "no VNNI, AMX or dot-product instructions found (Linux alone tells): without them int8 could overflow",
    )


def _locate(settings: Settings, backend: str) -> _Located:
    if backend == "fake" and not Path(settings.model).expanduser().is_dir():
        return _built_in(settings)
    source = resolve(settings.model, _wanted_of_a_hub(settings, backend))
    if is_artefact(source.folder):
        return _from_artefact(settings, backend, source)
    spec = read_spec(source.folder, name=source.name, overrides=settings.spec)
    _check_task(settings, spec, source.folder)
    if backend == "openvino":
        return _from_build(settings, source, spec)
    return _from_model_folder(settings, source, spec)


def find_task(settings: Settings) -> Task:
    """What the model is for, from its files alone; nothing is built or opened.

    Raises:
        ModelNotFoundError: no such folder or hub model.
        SpecError: it is neither a cross-encoder nor a sentence-embedding model.
    """
    backend, _ = choose_backend(settings.backend)
    if backend == "fake" and not Path(settings.model).expanduser().is_dir():
        return "embedding"
    source = resolve(settings.model, _wanted_of_a_hub(settings, backend))
    if is_artefact(source.folder):
        return read_manifest(source.folder).spec.task
    return read_spec(source.folder, name=source.name, overrides=settings.spec).task


def _check_task(settings: Settings, spec: ModelSpec, folder: Path) -> None:
    if spec.task == settings.task:
        return
    if spec.task == "scoring":
        raise SpecError(
            f"{folder} is a cross-encoder: it scores pairs of texts and has no vectors; open it with nimbed.Reranker"
        )
    raise SpecError(f"{folder} is a sentence-embedding model and scores no pairs")


def _wanted_of_a_hub(settings: Settings, backend: str) -> Source:
    """An engine that reads weights itself must not be given a repository's graph in their place."""
    reads_graphs = backend != "torch" or settings.source.file is not None
    return settings.source if reads_graphs else replace(settings.source, file="model.safetensors")


def _built_in(settings: Settings) -> _Located:
    from nimbed.backends import fake

    return _Located(
        source=ModelSource(name=settings.model, folder=Path()),
        folder=Path(),
        spec=fake.SPEC,
        precision="fp32",
        digest="fake",
        tokenizer=fake.tokenizer(),
        reasons={"precision": "the fake backend has one"},
    )


def _from_artefact(settings: Settings, backend: str, source: ModelSource) -> _Located:
    artefact = open_artefact(source.folder)
    manifest = artefact.manifest
    _check_task(settings, manifest.spec, source.folder)
    if backend not in {manifest.engine, "fake"}:
        raise InputError(f"{source.folder} is an artefact for {manifest.engine}, not for backend={backend!r}")
    if settings.precision not in {"auto", manifest.precision}:
        raise InputError(f"{source.folder} is an {manifest.precision} artefact, not {settings.precision}")
    if settings.spec.pooling not in {None, manifest.spec.pooling}:
        raise InputError(f"{source.folder} was built with {manifest.spec.pooling} pooling; build another one")
    named = replace(source, name=manifest.source.id, revision=manifest.source.revision)
    return _located(artefact, named, manifest.spec, {"precision": "the artefact's own"})


def _from_build(settings: Settings, source: ModelSource, spec: ModelSpec) -> _Located:
    precision, reason = choose_precision(settings.precision)
    if precision == "bf16":
        raise InputError('precision="bf16": backend="openvino" has int8 and fp32')
    request = make_request(source, spec, precision, source=settings.source)
    artefact = find_or_build(request)
    # The folder's own prompts and limits are fresher than those of the day of the build.
    return _located(artefact, source, spec, {"precision": reason, "artefact": f"built from {request.graph}"})


def _located(artefact: Artefact, source: ModelSource, spec: ModelSpec, reasons: dict[str, str]) -> _Located:
    return _Located(
        source=source,
        folder=artefact.folder,
        spec=spec,
        precision=artefact.manifest.precision,
        digest=artefact.manifest.digest,
        tokenizer=load_tokenizer(artefact.folder),
        reasons=reasons,
        quality=artefact.manifest.quality,
    )


def _from_model_folder(settings: Settings, source: ModelSource, spec: ModelSpec) -> _Located:
    """For engines that read the weights themselves."""
    weights = graph_file(source.folder, settings.source)
    if weights.suffix in {".xml", ".onnx"}:
        weights = source.folder / "model.safetensors"
    if not weights.is_file():
        raise ModelNotFoundError(f"{weights} is missing, and backend={settings.backend!r} reads nothing else")
    settings_files = [source.folder / name for name in ("config.json", "tokenizer.json")]
    files = [weights, *settings_files, *(source.folder / d.weights for d in spec.dense)]
    chosen = "fp32" if settings.precision == "auto" else settings.precision
    return _Located(
        source=source,
        folder=source.folder,
        spec=spec,
        precision=chosen,
        digest=sha256_of(*(f for f in files if f.is_file())),
        tokenizer=load_tokenizer(source.folder),
        reasons={"precision": "set by the user" if settings.precision != "auto" else "this engine's default"},
    )


def _normalize(settings: Settings, spec: ModelSpec, folder: Path) -> bool:
    wanted = settings.spec.normalize
    if spec.normalize and wanted is False:
        raise InputError(f"normalize=False: the artefact {folder} normalises in its graph; build one that does not")
    return spec.normalize if wanted is None else wanted


def _max_length(settings: Settings, spec: ModelSpec) -> int:
    most = spec.positions or spec.max_length
    if settings.max_length is not None and settings.max_length > most:
        raise InputError(
            f"max_length={settings.max_length} is more than the {most} tokens that the network takes; "
            'truncate="chunk" embeds longer texts'
        )
    return settings.max_length or spec.max_length


def _dim(settings: Settings, spec: ModelSpec) -> int:
    if settings.dim is not None and settings.dim > spec.dim:
        raise InputError(f"dim={settings.dim} is more than the model's {spec.dim}")
    return settings.dim or spec.dim


def _fingerprint(info: EncoderInfo, spec: ModelSpec, digest: str) -> str:
    """Hash over all that can change a vector, and nothing else: not the path, the threads or the model's name."""
    names = (
        "backend", "backend_version", "precision", "instruction_set", "dim", "max_length", "pooling", "normalize",
        "prompts",
    )  # fmt: skip
    # "warn", "error" and "silent" give the same vectors.
    content = {
        "artefact": digest,
        "windows": info.truncate == "chunk",
        "side": spec.truncation_side,
        "head": [spec.task, spec.activation],
        "lowercase": spec.lowercase,
        "dense": [asdict(dense) for dense in spec.dense],
        **{name: getattr(info, name) for name in names},
    }
    return hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=16).hexdigest()
