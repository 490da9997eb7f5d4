"""What an engine is: opened with a request, it has sessions that turn token ids into vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from nimbed._types import Float32Array, ModelSpec, Precision, TokenBatch
    from nimbed.backends.shapes import ShapePolicy, Tuning


@dataclass(frozen=True, kw_only=True)
class OpenRequest:
    """What a backend needs in order to open a model.

    Attributes:
        folder: the artefact's folder, or for engines that read it directly, the model folder.
        spec: what the vectors shall be.
        precision: of the arithmetic.
        threads: how many the engine may use.
        tuning: what was found to suit this machine, or None where nobody looked.
        code: a TorchScript file to run, which nimbed wrote or the user allowed; None has the folder's weights read.
        network: the weights' file, for engines that read the model folder; None is ``model.safetensors``.
    """

    folder: Path
    spec: ModelSpec
    precision: Precision
    threads: int
    tuning: Tuning | None = None
    code: Path | None = None
    network: Path | None = None


class Session(Protocol):
    """Runs batches on an opened engine; used by one thread at a time.

    Attributes:
        any_thread: whether it may be another thread each time; where not (an engine that keeps workers for each thread
            that calls it), one thread alone does.
    """

    any_thread: bool

    def expect(self) -> None:
        """A batch is about to come: what sleeps may wake meanwhile. From any thread, at any time."""
        ...

    def run(self, batch: TokenBatch) -> Float32Array:
        """Sentence vectors, float32 ``[B, dim]``, pooled and normalized as the spec says (or scores ``[B, 1]``).

        Raises:
            OutOfMemoryError: memory for this batch could not be had.
            BackendError: the engine failed otherwise.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Bulk:
    """How an engine takes many texts.

    Attributes:
        sessions: which run at once.
        shapes: that suit each.
        longest_lent: tokens of the longest batch that the queries' session takes from them when nothing else runs: a
            query that comes then waits for it. None: any.
    """

    sessions: Sequence[Session]
    shapes: ShapePolicy
    longest_lent: int | None = None


class Backend(Protocol):
    """An opened engine. A backend's module has ``open_backend(request: OpenRequest) -> Backend``."""

    @property
    def version(self) -> str:
        """The engine and its version: a change of it may change vectors in the last bits."""
        ...

    @property
    def shapes(self) -> ShapePolicy:
        """The shapes that this engine likes."""
        ...

    @property
    def reasons(self) -> Mapping[str, str]:
        """What the engine itself decided, by the name of the decision, and why; for people to read."""
        ...

    def session(self) -> Session:
        """A new session with all of the engine's threads; cheap beside opening."""
        ...

    def bulk(self) -> Bulk:
        """Sessions that divide the engine's threads among themselves; they may run beside the other ones."""
        ...

    def close(self) -> None:
        """Give the memory back; sessions must not be used any more."""
        ...
