"""What the engines on PyTorch share: loading a model folder's weights, and the sentence head behind the network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import transformers
from torch.nn import functional

from nimbed._model_folder.weights import read_dense, read_network
from nimbed.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nimbed._types import ModelSpec, Task
    from nimbed.backends.protocol import OpenRequest

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


def load_model(folder: Path, network: Path, task: Task) -> Any:  # noqa: ANN401 (a transformers model)
    """A transformers model with these weights, in memory of its own; runs no code of the folder.

    Transformers is given the tensors and finds no files itself, and what it would fill with random numbers is an error.

    Args:
        folder: the model folder, for ``config.json``.
        network: its safetensors or ``pytorch_model.bin``, whole or the index of their parts.
        task: says which kind of network.

    Raises:
        SpecError: a weight is missing, of another shape, or not finite; or a pickle holds more than weights.
    """
    config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    with torch.device("meta"):
        kind = type(_LOADERS[task].from_config(config, trust_remote_code=False))
    model, said = kind.from_pretrained(
        None,
        config=config,
        state_dict={name: torch.from_numpy(np.array(values)) for name, values in read_network(network).items()},
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # they are refused below, by name
        local_files_only=True,
    )
    model.name_or_path = model.config.name_or_path = str(folder)  # an exporter would ask the hub for "None"
    if misfits := sorted(said["mismatched_keys"]):
        name, found, wanted = misfits[0]
        raise SpecError(f"{network}: {name} has the shape {tuple(found)}, not {tuple(wanted)} as its config.json says")
    # Vectors do not pass through the pooler, and most embedding models are published without it.
    unused = "pooler" if task == "embedding" else None
    if missing := sorted(name for name in said["missing_keys"] if unused not in name.split(".")):
        raise SpecError(
            f"{network} lacks {missing[0]} (and {len(missing) - 1} more) of what {folder / 'config.json'} describes"
        )
    return model.eval()


def weights_of(request: OpenRequest) -> Path:
    """The file that holds them."""
    return request.network or request.folder / "model.safetensors"


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
            {name: torch.from_numpy(values) for name, values in read_dense(folder, dense).items()}
            for dense in spec.dense
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
