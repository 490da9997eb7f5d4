"""nimbed's own int8 engine for BERT and its kin: no padding, no cost of a new shape. See ``docs/native.md``."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from nimbed._files.json import parse_json
from nimbed._model_folder.network import ENCODER_FILE
from nimbed._model_folder.safetensors import read_tensors
from nimbed._native import REVISION, Model, Session, kernels
from nimbed.backends.protocol import Bulk
from nimbed.backends.shapes import ShapePolicy
from nimbed.errors import BackendError, InputError, OutOfMemoryError

if TYPE_CHECKING:
    from pathlib import Path

    from nimbed._types import Float32Array, TokenBatch
    from nimbed.backends.protocol import OpenRequest

# Tokens in a batch for one thread: several groups of those that pass through the layers together.
_TOKENS_PER_THREAD = 1024


def open_backend(request: OpenRequest) -> NativeBackend:
    """Map an artefact's weights into memory."""
    return NativeBackend(request)


class NativeBackend:
    """Weights in int8, activations rounded token by token while they are computed."""

    def __init__(self, request: OpenRequest) -> None:
        if request.precision != "int8":
            raise InputError(f'precision={request.precision!r}: backend="native" has int8')
        self._kernels = str(kernels())
        self._model = _open(request.folder / ENCODER_FILE)
        first = Session(self._model, request.threads, bulk=False)
        self._first_session: Session | None = first
        self._threads = first.threads
        self.shapes = _shapes(request, self._threads)
        self._bulk_shapes = _shapes(request, 1)
        self.reasons = {"arithmetic": f"int8 by {self._kernels} kernels"}
        if self._threads < request.threads:
            self.reasons["threads"] = f"{self._threads} of {request.threads}: the system gives no more threads"

    @property
    def version(self) -> str:
        """The kernels' own number, and the instruction set that they use."""
        return f"native {REVISION}, {self._kernels}"

    def session(self) -> NativeSession:
        """A session that shares each text among all threads, and goes before those in bulk."""
        session, self._first_session = self._first_session, None
        return NativeSession(session or Session(self._model, self._threads, bulk=False))

    def bulk(self) -> Bulk:
        """A session for each thread, which takes whole texts through all layers."""
        sessions = [NativeSession(Session(self._model, 1, bulk=True)) for _ in range(self._threads)]
        return Bulk(sessions=sessions, shapes=self._bulk_shapes)

    def close(self) -> None:
        """Drop the weights."""
        del self._first_session, self._model


class NativeSession:
    """One session of the extension, with memory of its own."""

    any_thread = True

    def __init__(self, session: Any) -> None:  # noqa: ANN401 (the extension's class)
        self._session = session

    def expect(self) -> None:
        """Wake the other threads, which fetch the first weights meanwhile."""
        self._session.expect()

    def run(self, batch: TokenBatch) -> Float32Array:
        """Sentence vectors, float32 ``[B, dim]``."""
        try:
            vectors: Float32Array = self._session.run(batch.ids, batch.offsets, batch.type_ids)
        except MemoryError as err:
            raise OutOfMemoryError(f"no memory for {len(batch)} texts of {len(batch.ids)} tokens") from err
        except (ValueError, RuntimeError) as err:
            raise BackendError(f"the native engine refused {len(batch)} texts: {err}") from err
        return vectors


def _shapes(request: OpenRequest, threads: int) -> ShapePolicy:
    """Any length, any number of rows."""
    return ShapePolicy(token_budget=max(_TOKENS_PER_THREAD * threads, request.spec.max_length))


def _open(path: Path) -> Any:  # noqa: ANN401 (the extension's class)
    try:
        arrays, metadata = read_tensors(path)
        settings = parse_json(metadata["nimbed"])
        if not isinstance(settings, dict):
            raise ValueError("its settings are no object")  # noqa: TRY301, TRY004 (reported with the other faults)
        return Model(settings, arrays)
    except (KeyError, ValueError, OSError) as err:
        if isinstance(err, OSError) and err.errno == errno.ENOMEM:
            raise OutOfMemoryError(f"no memory to open {path}: {err}") from err
        raise BackendError(f"the native engine cannot open {path}: {err}; build the artefact again") from err
