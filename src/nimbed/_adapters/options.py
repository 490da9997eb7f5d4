"""What the adapters share: a model's options as pydantic fields, and sentence-transformers' arguments translated."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict, Field, PrivateAttr
from pydantic.fields import FieldInfo

from nimbed import CacheConfig, Encoder, Source, SpecOverrides
from nimbed._adapters.advice import FLAT, Words, advising_in
from nimbed._adapters.fields import CacheChoice, QuietModel, TextPath
from nimbed._text.checks import check_text
from nimbed._types import Float32Array, Pooling, Precision, Role, Truncate
from nimbed.backends import BACKENDS
from nimbed.errors import InputError

__all__ = [
    "CPU",
    "MODEL_RULES",
    "ONE_PROCESS",
    "CacheChoice",
    "ModelOptions",
    "OpenOptions",
    "Pooling",
    "Precision",
    "Role",
    "Rule",
    "TextPath",
    "TranslatedOption",
    "Truncate",
    "settle",
    "to_lists",
    "translate",
]

# Rows that are made into Python floats at a stretch: more would hold the GIL for longer than a thread's turn (5 ms).
_ROWS = 64


class OpenOptions(QuietModel):
    """How a model is found and opened, flat. None of it can be changed once the model is open."""

    model_config = ConfigDict(populate_by_name=True, protected_namespaces=())

    model_name: TextPath = Field(frozen=True, description="Hub id, model folder or artefact folder.")
    backend: str = Field(default="auto", frozen=True, description=f"Engine: auto, {', '.join(BACKENDS)}.")
    precision: Precision | Literal["auto"] = Field(
        default="auto", frozen=True, description='Of the arithmetic; "auto" is int8 where the CPU is fast at it.'
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
                spec=SpecOverrides(pooling=self.pooling, prompts=prompts, normalize=self.normalize),
                source=self._source(),
            )

    def _threads(self) -> int | None:
        return self.threads

    def _documents(self, texts: Sequence[str], *, progress: bool) -> list[list[float]]:
        with advising_in(self._words):
            if progress:
                return [row for block in self._encoder.encode_iter(texts, progress=True) for row in to_lists(block)]
            return to_lists(self._encoder.encode(texts))

    async def _adocuments(self, texts: Sequence[str], *, progress: bool) -> list[list[float]]:
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


@dataclass(frozen=True, kw_only=True)
class Rule:
    """How an argument that is not nimbed's own is translated. None always means that it was not given.

    Attributes:
        harmless: values that cannot change what nimbed does; None means all.
        becomes: the flat word that takes any other value, or None where any other is refused.
        only: the values that it takes, or None for all.
        remedy: why the rest is refused, and what to do.
    """

    harmless: tuple[object, ...] | None = ()
    becomes: str | None = None
    only: tuple[object, ...] | None = None
    remedy: str = ""


CPU = Rule(harmless=("cpu",), remedy='nimbed computes on the CPU; remove it, or say "cpu"')
_NO_TOKEN = Rule(remedy="nimbed takes no secrets as arguments; run `hf auth login` once, or set HF_TOKEN")
_NO_LOADER = Rule(
    harmless=({},),
    remedy="it is for transformers, which nimbed does not load; remove it (nimbed's own words are backend, precision, "
    "max_length, truncate, pooling)",
)
ONE_PROCESS = Rule(
    harmless=(False,),
    remedy="nimbed uses the cores with threads of one process; remove it (threads=... sets their number)",
)
_NO_OBJECTS = Rule(remedy="nimbed reads a model folder, not objects; save it, and give the folder as model_name")

MODEL_RULES: dict[str, Rule] = {
    "backend": Rule(
        becomes="backend",
        only=("auto", *BACKENDS),
        remedy=f"nimbed's engines are {', '.join(BACKENDS)} (openvino also reads a folder's ONNX file); remove it, and "
        "the fastest is taken",
    ),
    "cache_folder": Rule(becomes="cache_folder"),
    "config_kwargs": _NO_LOADER,
    "device": CPU,
    "local_files_only": Rule(harmless=(False,), becomes="local_files_only"),
    "model_card_data": _NO_OBJECTS,
    "model_kwargs": _NO_LOADER,
    "modules": _NO_OBJECTS,
    "processor_kwargs": _NO_LOADER,
    "revision": Rule(becomes="revision"),
    "similarity_fn_name": Rule(harmless=None),
    "token": _NO_TOKEN,
    "tokenizer_kwargs": _NO_LOADER,
    "truncate_dim": Rule(becomes="dim"),
    "trust_remote_code": Rule(
        harmless=(False,),
        remedy="nimbed never runs a repository's own code; use a model that needs none, or a folder with an OpenVINO "
        "or ONNX file",
    ),
    "use_auth_token": _NO_TOKEN,
}


@dataclass(frozen=True, kw_only=True)
class TranslatedOption:
    """An argument translated into a flat option; ``label`` is how the user wrote the argument."""

    label: str
    word: str
    value: Any


def translate(
    arguments: Mapping[str, Any], rules: Mapping[str, Rule], *, label: str = "{}=..."
) -> list[TranslatedOption]:
    """The flat options that arguments become.

    Raises:
        InputError: an argument is unknown, or asks for what nimbed does not do; names it and not its value.
    """
    translated = []
    for name, value in arguments.items():
        written = label.format(name)
        if (rule := rules.get(name)) is None:
            raise InputError(f"{written} is not known to nimbed; remove it (known: {', '.join(sorted(rules))})")
        if value is None or rule.harmless is None or value in rule.harmless:
            continue
        if rule.becomes is None or not (rule.only is None or value in rule.only):
            raise InputError(f"{written} cannot be honoured: {rule.remedy}")
        translated.append(TranslatedOption(label=written, word=rule.becomes, value=value))
    return translated


def settle(
    flat: Mapping[str, Any], translated: Iterable[TranslatedOption], fields: Mapping[str, FieldInfo]
) -> dict[str, Any]:
    """One value for each flat option that was translated.

    Args:
        flat: nimbed's own options, as the user gave them.
        translated: options that other arguments became.
        fields: of the adapter; a flat option with its default counts as not given.

    Raises:
        InputError: two of them contradict each other.
    """
    settled: dict[str, Any] = {}
    for one in translated:
        default = fields[one.word].default
        other = settled.get(one.word, flat.get(one.word, default))
        if other not in {default, one.value}:
            raise InputError(f"{one.label} means {one.word}={one.value!r}, but {one.word}={other!r} was given too")
        settled[one.word] = one.value
    return settled


def _named_prompt(name: str, known: Mapping[str, str]) -> str:
    """A prompt of the model folder; every sentence-transformers model has the names "query" and "document"."""
    if name not in known and name not in {"query", "document"}:
        raise InputError(f"prompt_name {name!r}: the model has {', '.join(sorted(known)) or 'no prompts'}")
    return known.get(name, "")
