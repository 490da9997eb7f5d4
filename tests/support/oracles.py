"""What a model folder's vectors are: torch in fp32, one text at a time, so that no padding can matter.

transformers' own class where it has one; else the plain encoder, which tests hold to transformers' classes.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tests.support.networks import family_of, plain_tensors
from tests.support.plain_encoder import PlainEncoder
from tests.support.task_adapters import merged
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    Array = npt.NDArray[np.float32]
    Ids = Sequence[Sequence[int]]

# Where transformers' classes keep their layers.
_LAYERS = ("encoder.layer", "transformer.layer", "layers")


def oracle_vectors(folder: Path, ids: Ids, *, task: str | None = None) -> Array:
    """Vectors ``[n, dim]`` of token ids (special tokens included), pooled and normalized as the folder says.

    Args:
        folder: a model folder of a family that `tests.support.networks` knows, whoever wrote it.
        ids: of each text.
        task: whose adapters the network wears, where the folder has adapters.
    """
    return pooled(folder, [states[-1] for states in oracle_layers(folder, ids, task=task)])


@torch.inference_mode()
def oracle_layers(folder: Path, ids: Ids, *, task: str | None = None) -> list[list[Array]]:
    """Of each text the states ``[tokens, width]``: embedded, behind each layer, and what is pooled."""
    config = _read(folder / "config.json")
    family = family_of(config)
    if family.has_class and not family.scores:
        return _of_transformers(folder, ids)
    encoder = plain_encoder(folder, task=task)
    return [[state.numpy() for state in encoder.layers(one)] for one in ids]


@torch.inference_mode()
def oracle_scores(folder: Path, ids: Ids, types: Ids | None = None) -> Array:
    """A cross-encoder's logits ``[n, 1]`` of pairs' token ids, before any sigmoid."""
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    with_types = types is not None and model.config.model_type in {"bert", "electra"}
    rows = [
        model(torch.tensor([one]), **({"token_type_ids": torch.tensor([types[at]])} if with_types else {})).logits
        for at, one in enumerate(ids)
    ]
    return torch.cat(rows).numpy()


def plain_encoder(folder: Path, *, task: str | None = None) -> PlainEncoder:
    """The plain encoder of a folder's tensors."""
    from safetensors.torch import load_file

    config = _read(folder / "config.json")
    family = family_of(config)
    anatomy = family.anatomy(config)
    stored = load_file(folder / "model.safetensors")
    stored = merged(stored, config, task) if family.adapters else stored
    return PlainEncoder(anatomy, plain_tensors(family, anatomy, stored))


def pooled(folder: Path, tokens: Sequence[Array]) -> Array:
    """Token vectors ``[tokens, width]`` of each text as vectors, by the folder's own files."""
    mode = _read(folder / "1_Pooling" / "config.json")["pooling_mode"]
    pick = {"mean": lambda one: one.mean(0), "cls": lambda one: one[0], "lasttoken": lambda one: one[-1]}[mode]
    vectors = torch.tensor(np.stack([pick(one) for one in tokens]))
    normalized = any(module["type"].endswith("Normalize") for module in _read(folder / "modules.json"))
    return (functional.normalize(vectors) if normalized else vectors).numpy()


def _of_transformers(folder: Path, ids: Ids) -> list[list[Array]]:
    from transformers import AutoModel

    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    found: list[list[Array]] = []
    states: list[Array] = []

    def embedded(_: Any, inputs: tuple[torch.Tensor, ...], options: dict[str, torch.Tensor]) -> None:
        states.append((inputs[0] if inputs else options["hidden_states"])[0].numpy())

    def behind(_: Any, __: Any, output: Any) -> None:
        states.append((output[0] if isinstance(output, tuple) else output)[0].numpy())

    layers = next(module for path in _LAYERS if (module := _at(model, path)) is not None)
    layers[0].register_forward_pre_hook(embedded, with_kwargs=True)
    for layer in layers:
        layer.register_forward_hook(behind)
    for one in ids:
        states.clear()
        states.append(model(torch.tensor([one])).last_hidden_state[0].numpy())
        found.append([*states[:-1], states[-1]])
    return found


def _at(module: Any, path: str) -> Any:
    for name in path.split("."):
        module = getattr(module, name, None)
    return module


def _read(file: Path) -> Any:
    return json.loads(file.read_text())
