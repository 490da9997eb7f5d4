"""PyTorch in eager mode on the CPU: the oracle that every other engine is held against.

Reads the model folder itself (safetensors), never an artefact. The number of threads is PyTorch's own setting, which
is one for the whole process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import transformers
from safetensors.torch import load_file
from torch.nn import functional

from nimbed import _machine
from nimbed._shapes import ShapePolicy
from nimbed._types import Bulk
from nimbed.errors import BackendError, InputError, OutOfMemoryError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nimbed._types import DenseSpec, Float32Array, ModelSpec, OpenRequest, TokenBatch

_LOADERS = {
    "embedding": transformers.AutoModel,
    "scoring": transformers.AutoModelForSequenceClassification,
}
_DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
_ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "gelu": functional.gelu,
    "identity": lambda x: x,
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
}


def open_backend(request: OpenRequest) -> TorchBackend:
    """Load a model folder's safetensors."""
    return TorchBackend(request)


class TorchBackend:
    """A transformers model with the sentence head in PyTorch."""

    def __init__(self, request: OpenRequest) -> None:
        if request.precision not in _DTYPES:
            raise InputError(f'precision={request.precision!r}: backend="torch" has fp32 and bf16')
        if request.precision == "bf16" and not _machine.cpu().bf16:
            raise InputError('precision="bf16": this CPU has no bf16 instructions; use "fp32"')
        torch.set_num_threads(request.threads)
        self.shapes = ShapePolicy(token_budget=max(2048, request.spec.max_length))
        self.reasons: dict[str, str] = {}
        self._spec = request.spec
        try:
            self._model = (
                _LOADERS[request.spec.task]
                .from_pretrained(
                    request.folder,
                    dtype=_DTYPES[request.precision],
                    local_files_only=True,
                    trust_remote_code=False,
                    use_safetensors=True,
                )
                .eval()
            )
        except Exception as err:  # transformers and safetensors raise classes of their own
            raise BackendError(f"PyTorch cannot open {request.folder}: {err}") from err
        self._dense = [_load_dense(request.folder, dense) for dense in request.spec.dense]

    @property
    def version(self) -> str:
        """PyTorch's and transformers' versions."""
        return f"torch {torch.__version__}, transformers {transformers.__version__}"

    def session(self) -> TorchSession:
        """A session; all share the weights."""
        return TorchSession(self._model, self._spec, self._dense)

    def bulk(self) -> Bulk:
        """One more session: PyTorch has one pool of threads for the whole process."""
        return Bulk(sessions=[self.session()], shapes=self.shapes)

    def close(self) -> None:
        """Drop the weights."""
        del self._model


class TorchSession:
    """Runs one batch at a time without gradients."""

    def __init__(self, model: torch.nn.Module, spec: ModelSpec, dense: list[dict[str, torch.Tensor]]) -> None:
        self._model = model
        self._spec = spec
        self._dense = dense

    def run(self, batch: TokenBatch) -> Float32Array:
        """Sentence vectors, float32 ``[B, dim]``, or scores ``[B, 1]``."""
        inputs = {k: torch.from_numpy(v) for k, v in batch.padded(max(1, int(batch.lengths.max()))).items()}
        del inputs["position_ids"]  # every model of transformers makes its own
        if self._spec.architecture not in {"bert", "electra", "nomic_bert"}:
            del inputs["token_type_ids"]
        try:
            with torch.inference_mode():
                vectors = self._head(self._model(**inputs), inputs["attention_mask"].float())
        except RuntimeError as err:
            kind = OutOfMemoryError if "allocate" in str(err) else BackendError
            raise kind(f"PyTorch failed on {len(batch)} texts: {err}") from err
        result: Float32Array = vectors.numpy().copy()
        return result

    def _head(self, output: Any, mask: torch.Tensor) -> torch.Tensor:  # noqa: ANN401 (a class for each task)
        if self._spec.task == "scoring":
            return _ACTIVATIONS[self._spec.activation](output.logits.float())
        vectors = _pool(output.last_hidden_state.float(), mask, self._spec.pooling)
        for layer, weights in zip(self._spec.dense, self._dense, strict=True):
            linear = functional.linear(vectors, weights["linear.weight"], weights.get("linear.bias"))
            vectors = _ACTIVATIONS[layer.activation](linear)
        return functional.normalize(vectors, dim=-1) if self._spec.normalize else vectors


def _pool(hidden: torch.Tensor, mask: torch.Tensor, pooling: str) -> torch.Tensor:
    """``[B, S, H]`` and mask ``[B, S]`` to ``[B, H]``, as sentence-transformers does it."""
    if pooling == "cls":
        return hidden[:, 0]
    if pooling == "lasttoken":
        last = (mask.sum(1).long() - 1).clamp(min=0)
        return hidden[torch.arange(len(hidden)), last]
    if pooling == "max":
        return hidden.masked_fill(mask[..., None] == 0, -1e9).amax(1)
    weights = mask * mask.cumsum(1) if pooling == "weightedmean" else mask
    return (hidden * weights[..., None]).sum(1) / weights.sum(1, keepdim=True).clamp(min=1e-9)


def _load_dense(folder: Path, dense: DenseSpec) -> dict[str, torch.Tensor]:
    return {name: tensor.float() for name, tensor in load_file(folder / dense.weights).items()}
