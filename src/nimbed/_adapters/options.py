"""What the adapters share: a model's options as pydantic fields."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from pydantic import ConfigDict, Field, PrivateAttr

from nimbed import CacheConfig, Encoder, Source, SpecOverrides
from nimbed._adapters.advice import FLAT, Words, advising_in
from nimbed._adapters.fields import CacheChoice, QuietModel, TextPath
from nimbed._text.checks import check_text
from nimbed._text.titles import TitledText
from nimbed._types import Float32Array, Pooling, Precision, Role, Truncate
from nimbed.backends import BACKENDS
from nimbed.errors import InputError

__all__ = [
    "CacheChoice",
    "ModelOptions",
    "OpenOptions",
    "Pooling",
    "Precision",
    "Role",
    "TextPath",
    "Truncate",
    "to_lists",
]

# Rows that are made into Python floats at a stretch: more would hold the GIL for longer than a thread's turn (5 ms).
_ROWS = 64


class OpenOptions(QuietModel):
    """How a model is found and opened, flat. None of it can be changed once the model is open."""

    model_config = ConfigDict(populate_by_name=True, protected_namespaces=())

    model_name: TextPath = Field(frozen=True, description="Hub id, model folder or artefact folder.")
    backend: str = Field(default="auto", frozen=True, description=f"Engine: auto, {', '.join(BACKENDS)}.")
    precision: Precision | Literal["auto"] = Field(
        default="auto", frozen=True, description='Of the arithmetic; "auto" is int8 where it is close enough to fp32.'
    )
    max_length: int | None = Field(
        default=None, frozen=True, description="Tokens that a text keeps; None is the model's own limit."
    )
    truncate: Truncate = Field(
        default="warn", frozen=True, description='For longer texts: "warn", "error", "silent" or "chunk".'
    )
    threads: int | None = Field(
        default=None, frozen=True, description="For the engine; None takes all cores that this process may use."
    )
    revision: str | None = Field(default=None, frozen=True, description="Branch, tag or commit of a hub repository.")
    file_name: str | None = Field(
        default=None,
        frozen=True,
        description="The graph within the model folder, such as a ready int8 OpenVINO file; None chooses.",
    )
    local_files_only: bool = Field(default=False, frozen=True, description="Never touch the network.")
    cache_folder: TextPath | None = Field(
        default=None, frozen=True, description="The hub's download cache; None is the hub's own default."
    )
    # Not written out: a pipeline's file must not permit what the user did not.
    allow_code: bool = Field(
        default=False,
        frozen=True,
        exclude=True,
        description='Run TorchScript that was not built here (backend="ipex").',
    )

    # How its error messages name options.
    _words: ClassVar[Words] = FLAT

    def _source(self) -> Source:
        return Source(
            revision=self.revision,
            local_files_only=self.local_files_only,
            cache_folder=self.cache_folder,
            file=self.file_name,
            allow_code=self.allow_code,
        )


class ModelOptions(OpenOptions):
    """The options of :class:`nimbed.Encoder`, flat."""

    dim: int | None = Field(
        default=None, frozen=True, description="Components that a vector keeps (Matryoshka); None keeps all."
    )
    cache: CacheChoice = Field(
        default=CacheConfig(),
        frozen=True,
        description="Of vectors: a size in bytes, the URL of a shared tier, a CacheConfig, or None for no cache.",
    )
    task: str | None = Field(
        default=None,
        frozen=True,
        description="What the vectors are for: a name or an instruction; None is the default.",
    )
    pooling: Pooling | None = Field(default=None, frozen=True, description="None takes the model folder's word.")
    normalize: bool | None = Field(
        default=None, frozen=True, description="Whether vectors have L2 norm 1; None takes the model folder's word."
    )
    query_instruction: str | None = Field(
        default=None, frozen=True, description='Put before queries; None is the model\'s own prompt, "" is none.'
    )
    text_instruction: str | None = Field(
        default=None, frozen=True, description='Put before documents; None is the model\'s own prompt, "" is none.'
    )
    _encoder: Encoder = PrivateAttr()

    @property
    def encoder(self) -> Encoder:
        """The core behind this adapter: its ``info``, ``stats()`` and ``close()``."""
        return self._encoder

    @property
    def fingerprint(self) -> str:
        """Hash over all that can change a vector: an index may be used with vectors of its own fingerprint only."""
        return self._encoder.fingerprint

    def _open(self, prompt_names: Mapping[Role, str] | None = None) -> None:
        instructions = {"query": self.query_instruction, "document": self.text_instruction}
        prompts = {role: text for role, text in instructions.items() if text is not None}
        if twice := prompts.keys() & (prompt_names or {}).keys():
            raise InputError(f"an instruction and a prompt_name for one role ({', '.join(twice)}); keep one")
        self._encoder = self._opened(prompts)
        # Only the open model knows which prompts its folder names.
        known = self._encoder.info.prompts
        named = {str(role): _named_prompt(name, known) for role, name in (prompt_names or {}).items()}
        if any(text != known.get(role, "") for role, text in named.items()):
            self._encoder.close()
            self._encoder = self._opened({**prompts, **named})

    def _opened(self, prompts: Mapping[str, str]) -> Encoder:
        with advising_in(self._words):
            return Encoder(
                self.model_name,
                backend=self.backend,
                precision=self.precision,
                max_length=self.max_length,
                truncate=self.truncate,
                dim=self.dim,
                threads=self._threads(),
                cache=self.cache,
                spec=self._spec(prompts),
                source=self._source(),
            )

    def _spec(self, prompts: Mapping[str, str]) -> SpecOverrides:
        return SpecOverrides(pooling=self.pooling, prompts=prompts, normalize=self.normalize, task=self.task)

    def _threads(self) -> int | None:
        return self.threads

    def _documents(self, texts: Sequence[str | TitledText], *, progress: bool) -> list[list[float]]:
        with advising_in(self._words):
            if progress:
                return [row for block in self._encoder.encode_iter(texts, progress=True) for row in to_lists(block)]
            return to_lists(self._encoder.encode(texts))

    async def _adocuments(self, texts: Sequence[str | TitledText], *, progress: bool) -> list[list[float]]:
        if progress:
            return await asyncio.to_thread(self._documents, texts, progress=True)
        with advising_in(self._words):
            vectors = await self._encoder.aencode(texts)
        return to_lists(vectors) if len(vectors) <= _ROWS else await asyncio.to_thread(to_lists, vectors)

    def _query(self, text: str) -> list[float]:
        with advising_in(self._words):
            return to_lists(self._encoder.encode_query(text)[None])[0]

    async def _aquery(self, text: str) -> list[float]:
        with advising_in(self._words):
            return to_lists(await self._encoder.aencode([check_text(text)], role="query"))[0]


def to_lists(vectors: Float32Array) -> list[list[float]]:
    """Float32 ``[n, dim]`` as Python floats; other threads get their turn every few rows."""
    starts = range(0, len(vectors), _ROWS)
    return [row for start in starts for row in vectors[start : start + _ROWS].tolist()]


def _named_prompt(name: str, known: Mapping[str, str]) -> str:
    """A prompt of the model folder; every sentence-transformers model has the names "query" and "document"."""
    if name not in known and name not in {"query", "document"}:
        raise InputError(f"prompt_name {name!r}: the model has {', '.join(sorted(known)) or 'no prompts'}")
    return known.get(name, "")
