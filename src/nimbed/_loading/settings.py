"""What the user asked for, what was chosen and why, and what was done: the records of an Encoder."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from nimbed._cache.store_urls import check_url, has_credentials, without_credentials
from nimbed._loading.hub import Source
from nimbed.backends import BACKENDS
from nimbed.errors import InputError
from nimbed.spec import SpecOverrides

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nimbed._cache.lru import CacheStats
    from nimbed._types import Pooling, Precision, Role, Task, Truncate

# Of the shared tier's key, at least.
_KEY_BYTES = 16
_PRECISIONS = ("auto", "bf16", "fp32", "int8")
# More than any machine has cores; each thread has memory of its own.
_MAX_THREADS = 4096
_TRUNCATE = ("chunk", "error", "silent", "warn")


@dataclass(frozen=True, kw_only=True)
class CacheConfig:
    """The cache of an Encoder.

    A pickle, and so a child process, gets neither the key nor the URL's user name and password: the child takes
    ``NIMBED_REDIS_URL`` and ``NIMBED_CACHE_KEY`` from its environment, or runs without the shared tier and says so in
    ``stats()``.

    Attributes:
        size_bytes: the memory that vectors may take in this process, in bytes.
        url: the URL of a second tier that processes share: ``redis://host:port/db``, or ``sqlite:///path/to/file``
            (``sqlite:////absolute/path``); None means no such tier. It slows a call by ``2 * timeout_s`` at most, and
            its failures never fail an embedding call.
        ttl_s: how many seconds the shared tier keeps a vector; None keeps it for good.
        timeout_s: no attempt at the shared tier begins later than this many seconds after the first.
        key: a secret of 16 bytes or more, the same for all who share the tier. Values in the tier are signed with it,
            and a value that is not is computed again. Without a key, whoever can write to the tier can put vectors of
            their own there. None takes ``NIMBED_CACHE_KEY``, if it is set.
        signed: never use the tier without a key.
    """

    size_bytes: int = 64 * 1024 * 1024
    url: str | None = field(default=None, repr=False)
    ttl_s: float | None = None
    timeout_s: float = 0.25
    key: bytes | str | None = field(default=None, repr=False)
    signed: bool = False
    credentials_dropped: bool = field(default=False, repr=False, init=False)

    def __post_init__(self) -> None:
        if not _is_number(self.size_bytes, int) or self.size_bytes < 0:
            raise InputError(
                f"cache: size_bytes={_shown(self.size_bytes)} must be a whole number of bytes, not negative"
            )
        for name in ("ttl_s", "timeout_s"):
            value = getattr(self, name)
            never = value is None and name == "ttl_s"
            if not never and (not _is_number(value, (int, float)) or not 0 < value < float("inf")):
                raise InputError(f"cache: {name}={_shown(value)} must be seconds above 0")
        if self.url is not None:
            check_url(self.url)
        self.secret()

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), **self.public(), "key": None, "credentials_dropped": self._has_credentials()}

    def public(self) -> dict[str, Any]:
        """The arguments that make it again, without user name, password and key."""
        url = without_credentials(self.url) if self.url and self._has_credentials() else self.url
        said = {"size_bytes": self.size_bytes, "url": url, "ttl_s": self.ttl_s, "timeout_s": self.timeout_s}
        return {**said, "signed": self.signed or (url is not None and self.secret() is not None)}

    def secret(self) -> bytes | None:
        """The key as bytes: this one's, or the environment's.

        Raises:
            InputError: it is too short, or no key at all; never shows it.
        """
        source, key = "key", self.key
        if key is None and self.url is not None:
            source, key = "NIMBED_CACHE_KEY", os.environ.get("NIMBED_CACHE_KEY", "").strip() or None
        secret = key.encode("utf-8", "surrogateescape") if isinstance(key, str) else key
        if secret is not None and (not isinstance(secret, bytes) or len(secret) < _KEY_BYTES):
            raise InputError(
                f"cache: {source} must be a string or bytes, {_KEY_BYTES} bytes or more; make one with `openssl rand "
                "-hex 32` (it is not shown here)"
            )
        return secret

    def _has_credentials(self) -> bool:
        return self.credentials_dropped or (self.url is not None and has_credentials(self.url))

    def __deepcopy__(self, memo: object) -> CacheConfig:
        return self  # frozen; a copy in this process keeps its credentials

    @classmethod
    def of(cls, cache: CacheConfig | int | str | None) -> CacheConfig | None:
        """From what a user may say: a configuration, a size in bytes, a URL, or None for no cache."""
        if cache is None or isinstance(cache, CacheConfig):
            return cache
        if isinstance(cache, str):
            return cls(url=cache)
        if _is_number(cache, int):
            return cls(size_bytes=cache)
        raise InputError(f"cache must be a CacheConfig, a size in bytes, a URL or None, not {type(cache).__name__}")


def _shown(value: object) -> str:
    """A number, or a word for what is none: it may be a URL or a key in the wrong place."""
    return repr(value) if isinstance(value, (int, float)) else f"<{type(value).__name__}>"


def _is_number(value: object, kinds: type | tuple[type, ...]) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool)


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
    cache: CacheConfig | None = field(default_factory=CacheConfig)
    spec: SpecOverrides = field(default_factory=SpecOverrides)
    source: Source = field(default_factory=Source)
    task: Task = "embedding"

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
            if value is not None and (not _is_number(value, int) or value < 1):
                raise InputError(f"{name}={value!r} must be a whole number from 1 on")
        if self.threads is not None and self.threads > _MAX_THREADS:
            raise InputError(f"threads={self.threads} is more than {_MAX_THREADS}; None takes the cores that are there")
        for name, kind in (("spec", SpecOverrides), ("source", Source)):
            if not isinstance(value := getattr(self, name), kind):
                raise InputError(f"{name}={value!r} must be a nimbed.{kind.__name__}(...), or None")


@dataclass(frozen=True, kw_only=True)
class EncoderInfo:
    """What an Encoder or Reranker uses, and why it was chosen.

    Attributes:
        model: hub id or folder name.
        revision: commit, for a hub model.
        backend: the engine; ``backend_version`` its version.
        precision: the precision of the arithmetic.
        instruction_set: the best instruction set for int8 that this CPU has.
        threads: how many threads the engine takes.
        dim: width of the vectors; 1 for scores.
        max_length: how many tokens of a text are kept, special tokens included.
        truncate: what is done to longer texts.
        pooling: how token vectors become one.
        normalize: whether vectors have L2 norm 1.
        task: what adapters or prompts tell the model to do: a task's name, or its words; None where they tell nothing.
        prompts: the prompts by role.
        similarity: the similarity function that the model's authors name.
        artefact: the folder that is run; ``digest`` that of its files.
        weights: digest of the network's files that it was made from: the same whatever engine it was built for.
        quality: measured against fp32 when the artefact was built; None if nimbed did not quantize it.
        fingerprint: see :attr:`nimbed.Encoder.fingerprint`.
        reasons: for each choice that nimbed made for you, why.
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
    task: str | None
    prompts: Mapping[str, str]
    similarity: str
    artefact: str
    digest: str
    weights: str
    quality: Mapping[str, Any] | None
    fingerprint: str
    reasons: Mapping[str, str]


class Latency(NamedTuple):
    """Milliseconds from call to vectors: the median and the 99th percentile of the latest calls (2048 at most)."""

    p50: float
    p99: float


@dataclass(frozen=True, kw_only=True)
class EncoderStats:
    """Counts since the encoder was made.

    Attributes:
        texts: asked for, also those that the cache had.
        tokens: computed, without padding.
        padded_tokens: computed, padding included.
        batches: run.
        truncated: texts that lost tokens.
        queue_depth: sequences that wait for the engine now.
        latency_ms: by role, of the latest calls.
        cache: what the cache did, or None where there is none.
    """

    texts: int = 0
    tokens: int = 0
    padded_tokens: int = 0
    batches: int = 0
    truncated: int = 0
    queue_depth: int = 0
    latency_ms: Mapping[Role, Latency] = field(default_factory=dict)
    cache: CacheStats | None = None

    @property
    def padding_waste(self) -> float:
        """Share of the computed tokens that were padding, 0 to 1."""
        return 1 - self.tokens / self.padded_tokens if self.padded_tokens else 0.0
