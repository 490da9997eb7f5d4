"""What the engines on PyTorch share: loading a model folder's weights, and the sentence head behind the network."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, cast

import torch
import transformers
from safetensors.torch import load_file
from torch.nn import functional

from nimbed.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nimbed._types import ModelSpec

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
_LOADERS = {
    "embedding": transformers.AutoModel,
    "scoring": transformers.AutoModelForSequenceClassification,
}
_ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "gelu": functional.gelu,
    "identity": lambda x: x,
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
}
_SEGMENTED = frozenset({"bert", "electra", "nomic_bert"})


def load_model(
    folder: Path,
    spec: ModelSpec,
    precision: str,
    *,
    pickled: bool = False,
) -> torch.nn.Module:
    """A transformers model with the folder's weights, from safetensors or a pickle of weights; runs none of its code.

    Args:
        folder: the model folder.
        spec: says which kind of network.
        precision: "fp32" or "bf16".
        pickled: read ``pytorch_model.bin``, which :func:`unpickle` has checked.
    """
    model: torch.nn.Module = _LOADERS[spec.task].from_pretrained(
        folder,
        config=transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False),
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=not pickled,
        weights_only=True,
    )
    return model.to(DTYPES[precision]).eval()


def unpickle(path: Path) -> dict[str, torch.Tensor]:
    """Weights by name from a file that ``torch.save`` wrote; nothing else that a pickle may hold is read.

    Raises:
        BackendError: the file is damaged, or holds more than weights.
    """
    try:
        return cast("dict[str, torch.Tensor]", torch.load(path, map_location="cpu", weights_only=True))
    except (pickle.UnpicklingError, RuntimeError, EOFError) as err:
        raise BackendError(
            f"{path} is damaged, or holds more than weights, which might be code, and is not read: {first_line(err)}"
        ) from err


def first_line(error: Exception) -> str:
    """PyTorch's messages go on for pages."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def input_names(spec: ModelSpec) -> list[str]:
    """The arguments that the network takes. Every model of transformers makes its own positions."""
    segments = ["token_type_ids"] if spec.architecture in _SEGMENTED else []
    return ["input_ids", "attention_mask", *segments]


class SentenceHead:
    """Makes sentence vectors of token vectors, or scores of logits, in fp32."""

    def __init__(self, folder: Path, spec: ModelSpec) -> None:
        self._spec = spec
        self._dense = [
            {name: tensor.float() for name, tensor in load_file(folder / dense.weights).items()} for dense in spec.dense
        ]

    def __call__(self, output: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """From ``[B, S, H]`` (or logits ``[B, 1]``) and mask ``[B, S]`` to ``[B, dim]``."""
        if self._spec.task == "scoring":
            return _ACTIVATIONS[self._spec.activation](output.float())
        vectors = pool(output.float(), mask.float(), self._spec.pooling)
        for layer, weights in zip(self._spec.dense, self._dense, strict=True):
            linear = functional.linear(vectors, weights["linear.weight"], weights.get("linear.bias"))
            vectors = _ACTIVATIONS[layer.activation](linear)
        return functional.normalize(vectors, dim=-1) if self._spec.normalize else vectors


def pool(hidden: torch.Tensor, mask: torch.Tensor, pooling: str) -> torch.Tensor:
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
