"""Settings in, an opened engine out, with the reason for all that was chosen."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nimbed import _machine
from nimbed._dtypes import load_ranges, ranges_of_cut
from nimbed._files.json import reading_once
from nimbed._loading.candidate import Candidate, find
from nimbed._loading.fingerprint import FingerprintInputs
from nimbed._loading.profile import read_profile
from nimbed._loading.resolve import Located, locate
from nimbed._loading.settings import EncoderInfo, Settings
from nimbed._model_folder.task_adapters import task_of
from nimbed._text.pair_tokenizer import PairTokenizer, pair_tokenizer
from nimbed._text.tokenizer import TextTokenizer
from nimbed.backends import BACKENDS, open_backend
from nimbed.backends.protocol import OpenRequest
from nimbed.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from nimbed._files.digests import Unchanged
    from nimbed._loading.profile import Profile
    from nimbed._types import Float32Array, ModelSpec
    from nimbed.backends.protocol import Backend


@dataclass(frozen=True, kw_only=True)
class Engine:
    """An opened backend with the tokenizer and the spec that go with it.

    ``files`` are those that the backend reads as long as it is open.
    ``normalize_after`` tells that vectors must still be normalized, since the graph does not do it.
    ``vector_fingerprint`` is that of a vector of full width, whatever the prompt. ``ranges`` are the components' own,
    ``[2, info.dim]``, or None where the artefact has none.
    """

    backend: Backend
    files: Unchanged
    tokenizer: TextTokenizer | PairTokenizer
    spec: ModelSpec
    info: EncoderInfo
    normalize_after: bool
    vector_fingerprint: str
    ranges: Float32Array | None = None


@reading_once()
def open_engine(settings: Settings, found: Candidate | None = None) -> Engine:
    """Find the model, unless that was done, find or build its artefact, open the backend."""
    located = locate(settings, found or find(settings))
    spec = located.spec
    max_length = _max_length(settings, spec)
    plan = _machine.thread_plan(settings.threads)
    profile = read_profile(located.digest, plan.threads)
    request = _request(located, replace(spec, max_length=max_length), plan.threads, profile)
    # What the user said is checked before seconds are spent on opening.
    normalize, dim = _normalize(settings, spec, located.folder), _dim(settings, spec)
    kind = pair_tokenizer if spec.task == "scoring" else TextTokenizer
    tokenizer = kind(located.tokenizer, spec, max_length=max_length, truncate=settings.truncate)
    opened = _opened(located, request)
    inputs = FingerprintInputs(
        artefact=located.digest,
        backend=located.backend,
        backend_version=opened.version,
        precision=located.precision,
        instruction_set="any" if BACKENDS[located.backend].portable else _machine.cpu().instruction_set,
        dim=dim,
        max_length=max_length,
        windows=settings.truncate == "chunk",
        truncation_side=spec.truncation_side,
        pooling=spec.pooling,
        normalize=normalize,
        prompts=spec.prompts,
        lowercase=spec.lowercase,
        dense=spec.dense,
        task=spec.task,
        activation=spec.activation,
        adapters=spec.adapters,
        template=spec.template,
        answers=spec.answers,
        centered=spec.center_before_cut and dim < spec.dim,
    )
    info = EncoderInfo(
        model=located.source.name,
        revision=located.source.revision,
        backend=located.backend,
        backend_version=opened.version,
        precision=located.precision,
        instruction_set=_machine.cpu().instruction_set,
        threads=plan.threads,
        dim=dim,
        max_length=max_length,
        truncate=settings.truncate,
        pooling=spec.pooling,
        normalize=normalize,
        task=task_of(spec.adapters) or spec.prompt_task or None,
        prompts=dict(spec.prompts),
        similarity=spec.similarity,
        artefact=str(located.folder),
        digest=located.digest,
        weights=located.weights,
        quality=located.quality,
        fingerprint=inputs.fingerprint(),
        reasons={
            **spec.origins,
            "threads": plan.reason,
            **located.reasons,
            **opened.reasons,
            **_untrained(spec, dim),
            **({} if profile is None else {"shapes": profile.reason}),
        },
    )
    return Engine(
        backend=opened,
        files=located.files.only(*located.mapped),
        tokenizer=tokenizer,
        spec=spec,
        info=info,
        normalize_after=normalize and not spec.normalize,
        vector_fingerprint=inputs.of_vectors(spec.dim).fingerprint(),
        ranges=_ranges(located, info),
    )


def _opened(located: Located, request: OpenRequest) -> Backend:
    """The files were hashed before and are read now: nothing may have come between."""
    opened = open_backend(located.backend, request)
    try:
        located.files.check(replaced=False)
    except BaseException:
        opened.close()
        raise
    return opened


def _request(located: Located, spec: ModelSpec, threads: int, profile: Profile | None) -> OpenRequest:
    """The spec's length is the one that is really used: the engine's buckets follow it."""
    return OpenRequest(
        folder=located.folder,
        spec=spec,
        precision=located.precision,
        threads=threads,
        tuning=None if profile is None else profile.tuning,
        code=located.code,
        network=located.network,
    )


def _ranges(located: Located, info: EncoderInfo) -> Float32Array | None:
    """Those that the build found, if it found them for vectors like these."""
    spec = located.spec
    others = (info.normalize and not spec.normalize) or (spec.center_before_cut and info.dim < spec.dim)
    kept = None if located.digest == "fake" or others else load_ranges(located.folder, spec.dim)
    return None if kept is None else ranges_of_cut(kept, info.dim, normalize=info.normalize)


def _normalize(settings: Settings, spec: ModelSpec, folder: Path) -> bool:
    wanted = settings.spec.normalize
    if spec.normalize and wanted is False:
        raise InputError(f"normalize=False: the artefact {folder} normalizes in its graph; build one that does not")
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


def _untrained(spec: ModelSpec, dim: int) -> dict[str, str]:
    """A remark on a width that the model was not trained for."""
    if not spec.dims or dim in {spec.dim, *spec.dims}:
        return {}
    return {"dim": f"set by the user; the model was trained for {', '.join(map(str, spec.dims))}"}
