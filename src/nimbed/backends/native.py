"""nimbed's own engine: int8 and fp32, no padding, no cost of a new shape. See ``docs/native.md``."""

from __future__ import annotations

import errno
import json
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from nimbed._files.json import parse_json
from nimbed._model_folder.networks.reading import read_weights
from nimbed._model_folder.networks.table import read_description
from nimbed._model_folder.safetensors import is_mapped, read_tensors
from nimbed._native import REVISION, Model, Session, kernels
from nimbed.backends.large_pages import in_large_pages, offered
from nimbed.backends.native_packed import pack, settings_of
from nimbed.backends.protocol import Bulk
from nimbed.backends.shapes import ShapePolicy
from nimbed.backends.table import ENCODER_FILE
from nimbed.errors import BackendError, OutOfMemoryError, SpecError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from nimbed._types import Float32Array, ModelSpec, Role, TokenBatch
    from nimbed.backends.protocol import OpenRequest

# Tokens in a batch for one thread: several groups of those that pass through the layers together. Longer texts come one
# by one, on all threads: they would need a workspace each.
_TOKENS_PER_THREAD = 1024
# Of a smaller table of words all may stay resident.
_LARGE_TABLE = 64 << 20
# Fewer weights need no large pages, and stay those of the file, which all processes share.
_LARGE_WEIGHTS = 32 << 20


def open_backend(request: OpenRequest) -> NativeBackend:
    """Open an artefact's weights, or read a model folder's in fp32."""
    return NativeBackend(request)


class NativeBackend:
    """Weights in int8, activations rounded token by token while they are computed; or all in fp32."""

    def __init__(self, request: OpenRequest) -> None:
        self._models = _open(request)
        first = self._sessions(request.threads, bulk=False)
        self._first_session: NativeSession | None = first
        self._threads = first.threads
        self.shapes = _shapes(self._threads)
        self._bulk_shapes = _shapes(1)
        self.reasons = {"arithmetic": f"{request.precision} by {kernels()} kernels"}
        if self._threads < request.threads:
            self.reasons["threads"] = f"{self._threads} of {request.threads}: the system gives no more threads"

    @property
    def version(self) -> str:
        """The kernels' own number; all instruction sets give the same bits."""
        return f"native {REVISION}"

    def session(self) -> NativeSession:
        """A session that shares each text among all threads, and goes before those in bulk."""
        session, self._first_session = self._first_session, None
        return session or self._sessions(self._threads, bulk=False)

    def bulk(self) -> Bulk:
        """A session for each thread, which takes whole texts through all layers; long ones share all threads."""
        together = self._sessions(self._threads, bulk=True)
        turns = threading.Lock()
        alone = [self._sessions(1, bulk=True) for _ in range(self._threads)]
        sessions = [_BulkSession(one, together, turns) for one in alone] if self._threads > 1 else alone
        return Bulk(sessions=sessions, shapes=self._bulk_shapes, longest_lent=_TOKENS_PER_THREAD)

    def close(self) -> None:
        """Drop the weights."""
        del self._first_session, self._models

    def _sessions(self, threads: int, *, bulk: bool) -> NativeSession:
        return NativeSession({role: Session(model, threads, bulk=bulk) for role, model in self._models.items()})


class NativeSession:
    """One session of the extension, with memory of its own; or one for the network of each role."""

    any_thread = True

    def __init__(self, sessions: Mapping[Role, Session]) -> None:
        self._sessions = sessions
        self._document = sessions["document"]

    @property
    def threads(self) -> int:
        """How many it has."""
        return self._document.threads

    def expect(self) -> None:
        """Wake the other threads, which fetch the first weights meanwhile."""
        self._sessions.get("query", self._document).expect()

    def run(self, batch: TokenBatch) -> Float32Array:
        """Sentence vectors or scores, float32 ``[B, dim]``."""
        try:
            return self._sessions.get(batch.role, self._document).run(batch.ids, batch.offsets, batch.type_ids)
        except MemoryError as err:
            raise OutOfMemoryError(f"no memory for {len(batch)} texts of {len(batch.ids)} tokens") from err
        except (ValueError, RuntimeError) as err:
            raise BackendError(f"the native engine refused {len(batch)} texts: {err}") from err


class _BulkSession:
    """A session of one thread, and in turns with its like the one of all threads."""

    any_thread = True

    def __init__(self, alone: NativeSession, together: NativeSession, turns: threading.Lock) -> None:
        self._alone = alone
        self._together = together
        self._turns = turns

    def expect(self) -> None:
        """Nothing sleeps here."""

    def run(self, batch: TokenBatch) -> Float32Array:
        """As :meth:`NativeSession.run`."""
        if len(batch.ids) <= _TOKENS_PER_THREAD:
            return self._alone.run(batch)
        with self._turns:
            return self._together.run(batch)


def _shapes(threads: int) -> ShapePolicy:
    """Any length, any number of rows."""
    return ShapePolicy(token_budget=_TOKENS_PER_THREAD * threads)


def read_packed(
    folder: Path, file: Path, spec: ModelSpec, role: Role = "document"
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A model folder's network as the engine reads it in fp32: its arrays by name, and its settings.

    Args:
        folder: the model folder.
        file: the network's weights in it.
        spec: what stands behind the network.
        role: whose adapter is merged into the weights, where it has one.

    Raises:
        SpecError: the folder says what the engine does not honour, or its weights don't fit what it says.
    """
    network = read_description(folder, spec)
    weights = read_weights(file, folder, network, spec, adapter=spec.adapter(role))
    arrays = pack(weights, network)
    weights.release()
    return arrays, settings_of(network, spec)


def joined(networks: Mapping[Role, tuple[Mapping[str, Any], dict[str, Any]]]) -> tuple[dict[str, Any], dict[str, str]]:
    """The arrays and the metadata of an engine file, of each role's arrays and settings.

    What the query's network has in common with the document's is kept once.
    """
    arrays = dict(networks["document"][0])
    for role, (own, _) in networks.items():
        arrays |= {f"{role}/{name}": values for name, values in own.items() if not _equal(arrays.get(name), values)}
    return arrays, {_setting_of(role): json.dumps(settings) for role, (_, settings) in networks.items()}


def _equal(one: Any, other: Any) -> bool:  # noqa: ANN401 (arrays)
    return one is not None and np.array_equal(one, other)


def _setting_of(role: Role) -> str:
    """The name of a role's settings in the file's metadata."""
    return "nimbed" if role == "document" else f"nimbed.{role}"


def _open(request: OpenRequest) -> dict[Role, Model]:
    """The model of each role that has one of its own."""
    try:
        read, models = _reader(request), {}
        for role in sorted(set(request.spec.networks.values())):
            arrays, settings = read(role)
            models[role] = Model(settings, arrays, _stays_mapped(arrays))
    except (KeyError, ValueError, OSError, MemoryError) as err:
        if isinstance(err, SpecError):
            raise
        if isinstance(err, MemoryError) or getattr(err, "errno", None) == errno.ENOMEM:
            raise OutOfMemoryError(f"no memory to open {request.folder}: {err}") from err
        file = request.folder / ENCODER_FILE
        raise BackendError(f"the native engine cannot open {file}: {err}; build the artefact again") from err
    return models


def _stays_mapped(arrays: Mapping[str, Any]) -> bool:
    """Whether the table of words is read from its file, row by row, instead of being resident."""
    words = arrays.get("words")
    return words is not None and words.nbytes >= _LARGE_TABLE and is_mapped(words)


def _reader(request: OpenRequest) -> Callable[[Role], tuple[dict[str, Any], dict[str, Any]]]:
    """Gives a role's arrays and settings."""
    if request.precision == "fp32":
        file = request.network or request.folder / "model.safetensors"
        return partial(read_packed, request.folder, file, request.spec)
    arrays, metadata = read_tensors(request.folder / ENCODER_FILE)
    # Tables are not read from end to end.
    weights = {name: values for name, values in arrays.items() if name.rpartition("/")[2].startswith("layers.")}
    if sum(values.nbytes for values in weights.values()) >= _LARGE_WEIGHTS and offered():
        arrays |= in_large_pages(weights)

    def read(role: Role) -> tuple[dict[str, Any], dict[str, Any]]:
        settings = parse_json(metadata[_setting_of(role)])
        if not isinstance(settings, dict):
            raise ValueError("its settings are no object")  # noqa: TRY004 (reported with the other faults)
        own = {name.removeprefix(f"{role}/"): values for name, values in arrays.items() if name.startswith(f"{role}/")}
        return arrays | own, settings

    return read
