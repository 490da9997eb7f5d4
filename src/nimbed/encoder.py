"""Encoder: texts in, vectors out."""

from __future__ import annotations

import time
from collections.abc import Sized
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Literal, overload

import numpy as np

from nimbed._dtypes import AnyArray, check_dtype, convert
from nimbed._loading.hub import Source
from nimbed._loading.settings import CacheConfig, EncoderInfo, EncoderStats, Settings
from nimbed._serving.call import Call
from nimbed._serving.open_model import OpenModel
from nimbed._serving.waiting import ends_at
from nimbed._text.checks import check_model, check_rows, check_text
from nimbed._text.titles import TitledText, check_items, item_blocks, with_titles
from nimbed.errors import InputError
from nimbed.spec import SpecOverrides

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from os import PathLike

    from nimbed._cache.lru import Vectors
    from nimbed._dtypes import Dtype, Float16Array, Int8Array, UInt8Array
    from nimbed._serving.runtime import Runtime
    from nimbed._types import Float32Array, Precision, Role, Truncate

    Texts = Sequence[str | TitledText]
    F32 = Literal["float32"]
    F16 = Literal["float16"]
    I8 = Literal["int8"]
    Bits = Literal["ubinary"]

__all__ = ["Encoder", "EncoderInfo", "EncoderStats", "TitledText"]

_ROLES = ("document", "query")
# Up to this many are looked up in the cache on the event loop itself, which takes microseconds.
_FEW_CHARACTERS = 2000


class Encoder(OpenModel):
    """A sentence-embedding model on the CPU.

    It may be used from many threads and event loops at once, and it can be pickled. A copy, pickled or inherited by
    fork, opens the model when it is first used.

    Args:
        model: hub id, model folder or artefact folder.
        backend: "native", "openvino", "torch", "ipex" (see ``docs/models.md``) or "fake"; "auto" chooses, and
            :attr:`info` says why.
        precision: "int8", "fp32" or "bf16"; "auto" takes int8 where it passes its quality gate (in OpenVINO, where the
            CPU has instructions for it too), else fp32. The native engine reads a model folder for fp32, and builds
            nothing.
        max_length: how many tokens of a text are kept, special tokens included; None is the model's own limit.
        truncate: what is done to longer texts. "warn" cuts and warns, "error" raises, "silent" cuts, and "chunk"
            embeds overlapping windows and averages them by token count.
        dim: keep the first ``dim`` components, then normalize again (Matryoshka); None keeps all.
        threads: threads of the engine; None takes what affinity and cgroup quota allow.
        cache: the cache of vectors, whose keys name everything that can change a vector: a size in bytes, the URL of
            a tier that processes share (``redis://...`` or ``sqlite:///...``), a :class:`nimbed.CacheConfig`, or None
            for no cache.
        spec: pooling, prompts, normalize and task in place of what the model folder says.
        source: revision, file, download cache and offline settings.

    Raises:
        ModelNotFoundError: there is no such folder or hub model.
        SpecError: the folder says something that cannot be honoured.
        InputError: a setting cannot be used.
        ArtefactError: the artefact is damaged or cannot be stored.
        MissingExtraError: building needs a package that is not installed.
        BuildError: the build failed; as QualityError, int8 is too far from fp32.

    Example:
        >>> encoder = Encoder("any-name", backend="fake")
        >>> vectors = encoder.encode(["The cat sat.", "A cat was sitting."])
        >>> vectors.shape, vectors.dtype.name
        ((2, 384), 'float32')
        >>> encoder.encode_query("Where is the cat?").shape
        (384,)
    """

    def __init__(
        self,
        model: str | PathLike[str],
        *,
        backend: str = "auto",
        precision: Precision | Literal["auto"] = "auto",
        max_length: int | None = None,
        truncate: Truncate = "warn",
        dim: int | None = None,
        threads: int | None = None,
        cache: CacheConfig | int | str | None = CacheConfig(),  # noqa: B008 (frozen)
        spec: SpecOverrides | None = None,
        source: Source | None = None,
    ) -> None:
        super().__init__(
            Settings(
                model=check_model(model),
                backend=backend,
                precision=precision,
                max_length=max_length,
                truncate=truncate,
                dim=dim,
                threads=threads,
                cache=CacheConfig.of(cache),
                spec=spec or SpecOverrides(),
                source=source or Source(),
            )
        )

    @overload
    def encode(
        self, texts: Texts, *, role: Role = ..., dtype: F32 = ..., timeout_s: float | None = ...
    ) -> Float32Array: ...
    @overload
    def encode(self, texts: Texts, *, role: Role = ..., dtype: F16, timeout_s: float | None = ...) -> Float16Array: ...
    @overload
    def encode(self, texts: Texts, *, role: Role = ..., dtype: I8, timeout_s: float | None = ...) -> Int8Array: ...
    @overload
    def encode(self, texts: Texts, *, role: Role = ..., dtype: Bits, timeout_s: float | None = ...) -> UInt8Array: ...
    @overload
    def encode(self, texts: Texts, *, role: Role = ..., dtype: Dtype, timeout_s: float | None = ...) -> AnyArray: ...
    def encode(
        self,
        texts: Texts,
        *,
        role: Role = "document",
        dtype: Dtype = "float32",
        timeout_s: float | None = None,
    ) -> AnyArray:
        """Embed texts, with the prompt of the role.

        Args:
            texts: any number; :class:`TitledText` for documents with titles, where the model's prompt takes one.
            role: "document" or "query". Queries do not wait for documents, and have a prompt of their own.
            dtype: "float32"; "float16"; "int8", steps of the ranges that the artefact keeps; or "ubinary", one bit for
                each component (1 if it is above 0), eight to a byte. See ``quantize_embeddings`` of
                sentence-transformers.
            timeout_s: how many seconds to wait for the vectors, including the wait at a full queue; None or infinity
                waits as long as it takes.

        Returns:
            ``[len(texts), dim]``, in the order of the texts; ``(0, dim)`` for an empty list. For "ubinary" it is uint8
            ``[len(texts), dim / 8]``.

        Raises:
            InputTypeError: something is not a string; names the index.
            InputError: a text is not valid Unicode, the role is unknown, the prompt takes no title, the artefact has no
                such dtype, or ``timeout_s`` is negative or not a number.
            TruncationError: a text is too long and ``truncate="error"``.
            EncodeTimeoutError: it took longer than ``timeout_s``.
        """
        until, started = ends_at(timeout_s), time.perf_counter()
        given, runtime = check_items(texts), self._ready(role, dtype)
        items = with_titles(given, role, runtime.engine.spec.prompt(role))
        if (vectors := runtime.cached(items, role)) is None:
            vectors = Call(runtime, items, role).result(until)
        return convert(self._answer(runtime, vectors, role, started), dtype, runtime.engine.ranges)

    @overload
    async def aencode(self, texts: Texts, *, role: Role = ..., dtype: F32 = ...) -> Float32Array: ...
    @overload
    async def aencode(self, texts: Texts, *, role: Role = ..., dtype: F16) -> Float16Array: ...
    @overload
    async def aencode(self, texts: Texts, *, role: Role = ..., dtype: I8) -> Int8Array: ...
    @overload
    async def aencode(self, texts: Texts, *, role: Role = ..., dtype: Bits) -> UInt8Array: ...
    @overload
    async def aencode(self, texts: Texts, *, role: Role = ..., dtype: Dtype) -> AnyArray: ...
    async def aencode(self, texts: Texts, *, role: Role = "document", dtype: Dtype = "float32") -> AnyArray:
        """As :meth:`encode`, without blocking the event loop. Cancelling removes the texts that have not started."""
        given, started = check_items(texts), time.perf_counter()
        if self._current() is None:  # a copy that has not opened the model
            import asyncio

            await asyncio.to_thread(self._opened)
        runtime = self._ready(role, dtype)
        items = with_titles(given, role, runtime.engine.spec.prompt(role))
        few = sum(map(len, items)) <= _FEW_CHARACTERS
        vectors = runtime.cached(items, role) if few else None
        vectors = vectors or await Call(runtime, items, role).aresult()
        return convert(self._answer(runtime, vectors, role, started), dtype, runtime.engine.ranges)

    @overload
    def encode_query(self, text: str, *, dtype: F32 = ..., timeout_s: float | None = ...) -> Float32Array: ...
    @overload
    def encode_query(self, text: str, *, dtype: F16, timeout_s: float | None = ...) -> Float16Array: ...
    @overload
    def encode_query(self, text: str, *, dtype: I8, timeout_s: float | None = ...) -> Int8Array: ...
    @overload
    def encode_query(self, text: str, *, dtype: Bits, timeout_s: float | None = ...) -> UInt8Array: ...
    @overload
    def encode_query(self, text: str, *, dtype: Dtype, timeout_s: float | None = ...) -> AnyArray: ...
    def encode_query(self, text: str, *, dtype: Dtype = "float32", timeout_s: float | None = None) -> AnyArray:
        """Embed one query with the query prompt. Returns ``[dim]``; dtype and errors are those of :meth:`encode`."""
        return self.encode([check_text(text)], role="query", dtype=dtype, timeout_s=timeout_s).reshape(-1)

    @overload
    def encode_iter(
        self, texts: Iterable[str | TitledText], *, role: Role = ..., dtype: F32 = ..., progress: bool = ...
    ) -> Iterator[Float32Array]: ...
    @overload
    def encode_iter(
        self, texts: Iterable[str | TitledText], *, role: Role = ..., dtype: F16, progress: bool = ...
    ) -> Iterator[Float16Array]: ...
    @overload
    def encode_iter(
        self, texts: Iterable[str | TitledText], *, role: Role = ..., dtype: I8, progress: bool = ...
    ) -> Iterator[Int8Array]: ...
    @overload
    def encode_iter(
        self, texts: Iterable[str | TitledText], *, role: Role = ..., dtype: Bits, progress: bool = ...
    ) -> Iterator[UInt8Array]: ...
    @overload
    def encode_iter(
        self, texts: Iterable[str | TitledText], *, role: Role = ..., dtype: Dtype, progress: bool = ...
    ) -> Iterator[AnyArray]: ...
    def encode_iter(
        self,
        texts: Iterable[str | TitledText],
        *,
        role: Role = "document",
        dtype: Dtype = "float32",
        progress: bool = False,
    ) -> Iterator[AnyArray]:
        """Embed any number of texts in bounded memory.

        The iterable is read one block ahead of the engine, so at most 2 x 512 texts are held.

        Args:
            texts: any iterable, of what :meth:`encode` takes.
            role: the role whose prompt is used.
            dtype: as in :meth:`encode`.
            progress: show a progress bar on standard error.

        Yields:
            ``[n, dim]`` blocks, in the order of the texts.
        """
        check_rows(texts)
        return self._blocks_encoded(texts, role, dtype, progress=progress)

    @property
    def dim(self) -> int:
        """Width of the vectors."""
        return self.info.dim

    def _ready(self, role: Role, dtype: Dtype) -> Runtime:
        if role not in _ROLES:
            raise InputError(f"role={role!r} is not one of {', '.join(_ROLES)}")
        runtime = self._opened()
        check_dtype(dtype, runtime.engine.info.dim, runtime.engine.ranges)
        return runtime

    def _answer(self, runtime: Runtime, vectors: Vectors, role: Role, started: float, first: int = 0) -> Float32Array:
        rows, cut = vectors
        lost = int(np.count_nonzero(cut))
        self._meter.call(role, texts=len(rows), truncated=lost, seconds=time.perf_counter() - started)
        if lost:
            runtime.engine.tokenizer.warn_cut(cut, range(first, first + len(cut)), stacklevel=4)
        return rows

    def _ended(self, runtime: Runtime, call: Call, role: Role, started: float, first: int) -> Float32Array:
        return self._answer(runtime, call.end(), role, started, first)

    def _blocks_encoded(
        self, texts: Iterable[str | TitledText], role: Role, dtype: Dtype, *, progress: bool
    ) -> Iterator[AnyArray]:
        from tqdm.auto import tqdm

        runtime = self._ready(role, dtype)
        waiting: Callable[[], Float32Array] | None = None
        total = len(texts) if isinstance(texts, Sized) else None
        with tqdm(total=total, unit="text", disable=not progress) as bar:
            for first, block in chain(item_blocks(texts), [(0, None)]):
                call, started = None, time.perf_counter()
                if block is not None:
                    items = with_titles(block, role, runtime.engine.spec.prompt(role))
                    # A long stream must not evict from the cache what other calls will ask for again.
                    call = Call(runtime, items, role, first=first, keep=False)
                    call.begin()
                if waiting is not None:
                    vectors = waiting()
                    bar.update(len(vectors))
                    yield convert(vectors, dtype, runtime.engine.ranges)
                waiting = None if call is None else partial(self._ended, runtime, call, role, started, first)
