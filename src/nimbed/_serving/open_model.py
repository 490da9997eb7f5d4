"""A model that many threads and event loops share: opened once, closed, pickled, forked, counted."""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING, Any, TypeVar

from nimbed._loading.engine import open_engine
from nimbed._loading.settings import EncoderInfo, EncoderStats, Settings
from nimbed._serving import fork
from nimbed._serving.runtime import Runtime
from nimbed._serving.stats import Meter
from nimbed.errors import ClosedError, InputTypeError

if TYPE_CHECKING:
    from collections.abc import Callable

    from nimbed._loading.candidate import Candidate
    from nimbed._types import BatchRecord

Opened = TypeVar("Opened", bound="OpenModel")


class OpenModel:
    """What an Encoder and a cross-encoder have in common; opens the model at once.

    It is pickled as its settings: the copy opens the model when first used, and so does a copy inherited by fork.
    """

    _runtime: Runtime | None
    _meter: Meter
    _finalizer: weakref.finalize[Any, OpenModel] | None

    def __init__(self, settings: Settings, found: Candidate | None = None) -> None:
        self._settings = settings
        self._reset()
        self._opened(found)

    def stats(self) -> EncoderStats:
        """Counts since the encoder was made (in this process)."""
        runtime, meter = self._current(), self._meter
        return EncoderStats(
            **meter.counts,
            queue_depth=0 if runtime is None else runtime.scheduler.depth(),
            latency_ms=meter.latency_ms,
            cache=None if runtime is None or runtime.cache is None else runtime.cache.stats(),
        )

    def on_batch(self, hook: Callable[[BatchRecord], None]) -> Callable[[], None]:
        """Call ``hook`` after each batch, on the engine's thread: it must be quick; a hook that raises is removed.

        Returns:
            a function that removes the hook.

        Raises:
            InputTypeError: it cannot be called.
        """
        if not callable(hook):
            raise InputTypeError(f"on_batch takes a function of a BatchRecord, not {type(hook).__name__}")
        self._meter.hooks.append(hook)
        return lambda: self._meter.hooks.remove(hook)

    @property
    def info(self) -> EncoderInfo:
        """What was chosen (engine, precision, threads, artefact, prompts, ...) and why."""
        return self._opened().engine.info

    @property
    def fingerprint(self) -> str:
        """Hash over all that can change a vector: vectors of equal fingerprints may be compared."""
        return self.info.fingerprint

    def close(self) -> None:
        """Stop the worker and give the model's memory back; later calls raise ClosedError.

        Called from within a call (by a signal handler, or a hook of :meth:`on_batch`) it returns at once, and a thread
        of its own waits for what runs.
        """
        fork.notice()
        with self._lock:
            self._runtime, self._closed = None, True
        if self._finalizer is not None:
            self._finalizer()

    def __enter__(self: Opened) -> Opened:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        chosen = self._settings
        return f"{type(self).__name__}({chosen.model!r}, backend={chosen.backend!r}, precision={chosen.precision!r})"

    def __getstate__(self) -> Settings:
        return self._settings

    def __setstate__(self, state: Settings) -> None:
        self._settings = state
        self._reset()

    def _reset(self) -> None:
        """The state of a model that has not been opened; also what a forked child starts from."""
        if (inherited := getattr(self, "_finalizer", None)) is not None:
            inherited.detach()  # what it would close belongs to the parent process
        self._lock = threading.RLock()
        self._finalizer = None
        self._runtime = None
        self._closed = False
        self._meter = Meter(self._meter.hooks if hasattr(self, "_meter") else [])
        fork.reset_in_child(self, OpenModel._reset)

    def _current(self) -> Runtime | None:
        """What is open in this process."""
        fork.notice()
        return self._runtime

    def _opened(self, found: Candidate | None = None) -> Runtime:
        runtime = self._current()
        if runtime is not None:
            return runtime
        with self._lock:
            if self._runtime is None and not self._closed:
                engine = open_engine(self._settings, found)
                self._start(Runtime(engine, self._settings.cache, weakref.WeakMethod(self._meter.batch)))
            if self._runtime is None:
                raise ClosedError("this encoder is closed")
            return self._runtime

    def _start(self, runtime: Runtime) -> None:
        """Start it, unless a signal handler opened another one meanwhile, or closed this encoder."""
        try:
            runtime.start()
            if self._runtime is None and not self._closed:
                self._finalizer = weakref.finalize(self, runtime.close)
                self._runtime = runtime
            else:
                runtime.close()
        except BaseException:
            runtime.close()
            raise
