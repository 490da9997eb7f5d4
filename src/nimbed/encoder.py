"""Encoder: texts in, vectors out. The pipeline of the whole package, one step a line."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Sized
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from nimbed import _fork
from nimbed._engine import Engine, open_engine
from nimbed._finish import finish
from nimbed._hub import Source
from nimbed._inputs import check_model, check_text, check_texts, text_blocks
from nimbed._scheduler import Scheduler
from nimbed._settings import EncoderInfo, EncoderStats, Settings
from nimbed.errors import ClosedError, InputError, InputTypeError
from nimbed.spec import SpecOverrides

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from concurrent.futures import Future
    from os import PathLike

    from nimbed._plan import PlannedBatch
    from nimbed._tokenize import TokenizedTexts
    from nimbed._types import Float32Array, Precision, Role, Truncate

__all__ = ["Encoder", "EncoderInfo", "EncoderStats"]

_ROLES = ("document", "query")


class Encoder:
    """A sentence-embedding model on the CPU.

    Usable from many threads and event loops at once. It can be pickled: the copy opens the model when first used;
    so does a copy inherited by fork.

    Args:
        model: hub id, model folder or artefact folder.
        backend: "openvino", "torch" or "fake"; "auto" is explained in :attr:`info`.
        precision: "int8", "fp32" or "bf16"; "auto" takes int8 where the CPU has instructions for it.
        max_length: tokens that a text keeps, special tokens included; None is the model's own limit.
        truncate: for longer texts: "warn" and cut, raise an "error", cut in silence ("silent"), or "chunk": embed
            overlapping windows and average them by token count.
        dim: keep the first ``dim`` components, then normalise again (Matryoshka); None keeps all.
        threads: for the engine; None takes what affinity and cgroup quota allow.
        spec: what to say instead of the model folder (pooling, prompts, normalize).
        source: revision, file, cache and offline settings.

    Raises:
        ModelNotFoundError: no such folder or hub model.
        SpecError: the folder holds what cannot be honoured.
        InputError: a setting cannot be used.
        ArtefactError: the artefact is damaged or cannot be stored.
        MissingExtraError: building needs a package that is not installed.

    Example:
        >>> encoder = Encoder("any-name", backend="fake")
        >>> vectors = encoder.encode(["The cat sat.", "A cat was sitting."])
        >>> vectors.shape, vectors.dtype.name
        ((2, 384), 'float32')
        >>> encoder.encode_query("Where is the cat?").shape
        (384,)
    """

    _running: _Running | None
    _finalizer: weakref.finalize[Any, Encoder] | None

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
        spec: SpecOverrides | None = None,
        source: Source | None = None,
    ) -> None:
        self._settings = Settings(
            model=check_model(model),
            backend=backend,
            precision=precision,
            max_length=max_length,
            truncate=truncate,
            dim=dim,
            threads=threads,
            spec=spec or SpecOverrides(),
            source=source or Source(),
        )
        self._reset()
        self._opened()

    def encode(self, texts: Sequence[str], *, role: Role = "document") -> Float32Array:
        """Embed texts, with the prompt that the role has.

        Returns:
            float32 ``[len(texts), dim]``, in the order of the texts; ``(0, dim)`` for an empty list.

        Raises:
            InputTypeError: something is not a string; names the index.
            InputError: a text is not valid Unicode, or the role is unknown.
            TruncationError: a text is too long and the policy is "error".
        """
        return self._submit(texts, role)()

    async def aencode(self, texts: Sequence[str], *, role: Role = "document") -> Float32Array:
        """As :meth:`encode`; the event loop stays free. Cancelling takes out what has not started."""
        loop = asyncio.get_running_loop()
        running = self._opened()
        pending = await loop.run_in_executor(running.helper, self._submit, check_texts(texts), role)
        await asyncio.wrap_future(pending.future)
        return await loop.run_in_executor(running.helper, pending)

    def encode_query(self, text: str) -> Float32Array:
        """Embed one query, with the query prompt: float32 ``[dim]``."""
        vectors = self._submit([check_text(text)], "query")()
        return vectors.reshape(-1)

    def encode_iter(
        self, texts: Iterable[str], *, role: Role = "document", progress: bool = False
    ) -> Iterator[Float32Array]:
        """Embed any number of texts in bounded memory.

        The iterable is read one block ahead of the engine: at most 2 x 512 texts are held.

        Args:
            texts: any iterable of strings.
            role: whose prompt is used.
            progress: show a progress bar on standard error.

        Yields:
            float32 ``[n, dim]`` blocks, in the order of the texts.
        """
        if isinstance(texts, (str, bytes)):
            raise InputTypeError(f"an iterable of strings is wanted, not one {type(texts).__name__}")
        return self._blocks_encoded(texts, role, progress=progress)

    def stats(self) -> EncoderStats:
        """Counts since the encoder was made (in this process)."""
        with self._lock:
            return EncoderStats(**self._counts)

    @property
    def info(self) -> EncoderInfo:
        """What was chosen (engine, precision, threads, artefact, prompts, ...) and why."""
        return self._opened().engine.info

    @property
    def dim(self) -> int:
        """Width of the vectors."""
        return self.info.dim

    @property
    def fingerprint(self) -> str:
        """Hash over all that can change a vector: vectors of equal fingerprints may be compared."""
        return self.info.fingerprint

    def close(self) -> None:
        """Stop the worker and give the model's memory back; later calls raise ClosedError."""
        with self._lock:
            self._running, self._closed = None, True
        if self._finalizer is not None:
            self._finalizer()

    def __enter__(self) -> Encoder:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        chosen = self._settings
        return f"Encoder({chosen.model!r}, backend={chosen.backend!r}, precision={chosen.precision!r})"

    def __getstate__(self) -> Settings:
        return self._settings

    def __setstate__(self, state: Settings) -> None:
        self._settings = state
        self._reset()

    def _reset(self) -> None:
        """The state of an encoder that has not been opened; also what a forked child starts from."""
        if (inherited := getattr(self, "_finalizer", None)) is not None:
            inherited.detach()  # what it would close belongs to the parent process
        self._lock = threading.RLock()
        self._finalizer = None
        self._running = None
        self._closed = False
        self._counts = {"texts": 0, "tokens": 0, "padded_tokens": 0, "batches": 0, "truncated": 0}
        _fork.reset_in_child(self, Encoder._reset)

    def _opened(self) -> _Running:
        running = self._running
        if running is not None:
            return running
        with self._lock:
            if self._closed:
                raise ClosedError("this encoder is closed")
            if self._running is None:
                self._running = _Running(open_engine(self._settings), weakref.WeakMethod(self._count_batch))
                self._finalizer = weakref.finalize(self, self._running.close)
            return self._running

    def _submit(self, texts: Sequence[str], role: Role, first: int = 0) -> _Pending:
        """Validate, tokenize with the prompt, plan and schedule; the rest happens when the vectors are there."""
        if role not in _ROLES:
            raise InputError(f"role={role!r} is not one of {', '.join(_ROLES)}")
        items = check_texts(texts)
        running = self._opened()
        engine = running.engine
        tokens = engine.tokenizer(items, engine.spec.prompt(role), first=first)
        # The cache takes its place here: only what it lacks goes on.
        future = running.scheduler.submit(tokens.sequences, role)
        self._count(texts=len(items), truncated=tokens.truncated)
        return _Pending(future, tokens, engine)

    def _blocks_encoded(self, texts: Iterable[str], role: Role, *, progress: bool) -> Iterator[Float32Array]:
        from tqdm.auto import tqdm

        total = len(texts) if isinstance(texts, Sized) else None
        with tqdm(total=total, unit="text", disable=not progress) as bar:
            waiting: _Pending | None = None
            for pending in chain((self._submit(block, role, first) for first, block in text_blocks(texts)), [None]):
                if waiting is not None:
                    vectors = waiting()
                    bar.update(len(vectors))
                    yield vectors
                waiting = pending

    def _count_batch(self, batch: PlannedBatch) -> None:
        self._count(batches=1, tokens=batch.tokens, padded_tokens=batch.padded_tokens)

    def _count(self, **more: int) -> None:
        with self._lock:
            for name, number in more.items():
                self._counts[name] += number


class _Running:
    """What an open encoder holds: the engine, the worker before it, and a thread for what async calls prepare."""

    def __init__(self, engine: Engine, on_batch: weakref.WeakMethod[Any]) -> None:
        self.engine = engine
        self.helper = ThreadPoolExecutor(1, thread_name_prefix="nimbed-prepare")

        def tell(batch: PlannedBatch) -> None:
            if (alive := on_batch()) is not None:
                alive(batch)

        self.scheduler = Scheduler(engine.backend.session(), engine.backend.shapes, engine.spec.dim, on_batch=tell)
        # Queries run alone: every length that one can have is compiled while nothing else waits.
        shapes = engine.backend.shapes
        self.scheduler.warm([np.zeros(n, np.int32) for n in shapes.lengths if n >= shapes.least_alone])

    def close(self) -> None:
        self.scheduler.close()
        self.helper.shutdown(wait=False)  # it may be the helper that drops the last reference
        self.engine.backend.close()


@dataclass(frozen=True)
class _Pending:
    """Vectors that are being computed; calling it waits for them and finishes them."""

    future: Future[Float32Array]
    tokens: TokenizedTexts
    engine: Engine

    def __call__(self) -> Float32Array:
        info = self.engine.info
        # The engine's vectors have norm 1 already, unless they were joined or cut.
        again = self.tokens.windowed or info.dim < self.engine.spec.dim or self.engine.normalize_after
        return finish(self.future.result(), self.tokens, dim=info.dim, normalize=info.normalize and again)
