"""What the user asked for, what was chosen and why, and what was done: the records of an Encoder."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from nimbed._hub import Source
from nimbed.backends import BACKENDS
from nimbed.errors import InputError
from nimbed.spec import SpecOverrides

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nimbed._types import Pooling, Precision, Truncate

_PRECISIONS = ("auto", "bf16", "fp32", "int8")
_TRUNCATE = ("chunk", "error", "silent", "warn")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the user said, checked; an Encoder is pickled as this."""

    model: str
    backend: str = "auto"
    precision: Precision | Literal["auto"] = "auto"
    max_length: int | None = None
    truncate: Truncate = "warn"
    dim: int | None = None
    threads: int | None = None
    spec: SpecOverrides = field(default_factory=SpecOverrides)
    source: Source = field(default_factory=Source)

    def __post_init__(self) -> None:
        for name, allowed in (
            ("backend", ("auto", *BACKENDS)),
            ("precision", _PRECISIONS),
            ("truncate", _TRUNCATE),
        ):
            if getattr(self, name) not in allowed:
                raise InputError(f"{name}={getattr(self, name)!r} is not one of {', '.join(allowed)}")
        for name in ("max_length", "dim", "threads"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
                raise InputError(f"{name}={value!r} must be a whole number from 1 on")


@dataclass(frozen=True, kw_only=True)
class EncoderInfo:
    """What an Encoder uses, and why.

    Attributes:
        model: hub id or folder name.
        revision: commit, for a hub model.
        backend: the engine; ``backend_version`` its version.
        precision: of the arithmetic.
        instruction_set: the best that this CPU has for int8.
        threads: that the engine takes.
        dim: width of the vectors.
        max_length: tokens that a text keeps, special tokens included.
        truncate: what happens to longer texts.
        pooling: how token vectors become one.
        normalize: whether vectors have L2 norm 1.
        prompts: by role.
        similarity: as the model's authors name it.
        artefact: the folder that is run.
        quality: measured against fp32 when the artefact was built; None where it was not quantised here.
        fingerprint: see :attr:`nimbed.Encoder.fingerprint`.
        reasons: for each choice that was made for the user, why.
    """

    model: str
    revision: str | None
    backend: str
    backend_version: str
    precision: Precision
    instruction_set: str
    threads: int
    dim: int
    max_length: int
    truncate: Truncate
    pooling: Pooling
    normalize: bool
    prompts: Mapping[str, str]
    similarity: str
    artefact: str
    quality: Mapping[str, Any] | None
    fingerprint: str
    reasons: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class EncoderStats:
    """Counts since the encoder was made.

    Attributes:
        texts: embedded.
        tokens: computed, without padding.
        padded_tokens: computed, padding included.
        batches: run.
        truncated: texts that lost tokens.
    """

    texts: int = 0
    tokens: int = 0
    padded_tokens: int = 0
    batches: int = 0
    truncated: int = 0

    @property
    def padding_waste(self) -> float:
        """Share of the computed tokens that were padding, 0 to 1."""
        return 1 - self.tokens / self.padded_tokens if self.padded_tokens else 0.0
