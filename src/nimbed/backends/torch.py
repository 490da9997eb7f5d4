"""PyTorch in eager mode on the CPU: the oracle that every other engine is held against.

Reads the model folder itself (safetensors or ``pytorch_model.bin``), never an artefact. The number of threads is
PyTorch's own setting, which is one for the whole process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import transformers

from nimbed import _machine
from nimbed.backends.protocol import Bulk
from nimbed.backends.shapes import ShapePolicy
from nimbed.backends.torch_parts import DTYPES, SentenceHead, input_names, load_model, weights_of
from nimbed.errors import BackendError, InputError, NimbedError, OutOfMemoryError

if TYPE_CHECKING:
    from nimbed._types import Float32Array, TokenBatch
    from nimbed.backends.protocol import OpenRequest


def open_backend(request: OpenRequest) -> TorchBackend:
    """Load a model folder's weights."""
    return TorchBackend(request)


class TorchBackend:
    """A transformers model with the sentence head in PyTorch."""

    def __init__(self, request: OpenRequest) -> None:
        if request.precision not in DTYPES:
            raise InputError(f'precision={request.precision!r}: backend="torch" has fp32 and bf16')
        if request.precision == "bf16" and not _machine.cpu().bf16:
            raise InputError('precision="bf16": this CPU has no bf16 instructions; use "fp32"')
        torch.set_num_threads(request.threads)
        self.shapes = ShapePolicy(token_budget=max(2048, request.spec.max_length))
        self.reasons: dict[str, str] = {}
        self._names = input_names(request.spec)
        try:
            model = load_model(request.folder, weights_of(request), request.spec.task)
            self._model = model.to(DTYPES[request.precision])
        except NimbedError:
            raise
        except Exception as err:  # transformers and safetensors raise classes of their own
            raise BackendError(f"PyTorch cannot open {request.folder}: {err}") from err
        self._head = SentenceHead(request.folder, request.spec)

    @property
    def version(self) -> str:
        """PyTorch's and transformers' versions."""
        return f"torch {torch.__version__}, transformers {transformers.__version__}"

    def session(self) -> TorchSession:
        """A session; all share the weights."""
        return TorchSession(self._model, self._names, self._head)

    def bulk(self) -> Bulk:
        """One more session: PyTorch has one pool of threads for the whole process."""
        return Bulk(sessions=[self.session()], shapes=self.shapes)

    def close(self) -> None:
        """Drop the weights."""
        del self._model


class TorchSession:
    """Runs one batch at a time without gradients."""

    any_thread = False

    def __init__(self, model: torch.nn.Module, names: list[str], head: SentenceHead) -> None:
        self._model = model
        self._names = names
        self._head = head

    def expect(self) -> None:
        """Nothing sleeps here that would have to be woken."""

    def run(self, batch: TokenBatch) -> Float32Array:
        """Sentence vectors, float32 ``[B, dim]``, or scores ``[B, 1]``."""
        padded = batch.padded(max(1, int(batch.lengths.max())))
        inputs = {name: torch.from_numpy(padded[name]) for name in self._names}
        try:
            with torch.inference_mode():
                # The first output is the token vectors, or the logits.
                vectors = self._head(self._model(**inputs)[0], inputs["attention_mask"])
        except (RuntimeError, IndexError) as err:  # the latter: a table has no such row
            kind = OutOfMemoryError if "allocate" in str(err) else BackendError
            raise kind(f"PyTorch failed on {len(batch)} texts: {err}") from err
        result: Float32Array = vectors.numpy().copy()
        return result
