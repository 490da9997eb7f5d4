"""jina-embeddings-v3's task adapters (Sturua et al. 2024): LoRA (Hu et al. 2021) on every linear layer and every table.

A weight is stored as ``X.parametrizations.weight.original``, beside ``X.parametrizations.weight.0.lora_A`` and
``lora_B`` with a leading axis of tasks. A linear layer ``[outputs, inputs]`` adds ``B @ A``, A ``[rank, inputs]``; a
table ``[rows, width]`` adds ``A @ B``, A ``[rows, rank]``; both times alpha / rank.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

_ORIGINAL = ".parametrizations.weight.original"
_LOW_RANK = ".parametrizations.weight.0.lora_"


def with_adapters(stored: Mapping[str, torch.Tensor], config: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """The file's tensors with seeded adapters, each of which changes a weight by a third of its size."""
    generator = torch.Generator().manual_seed(2)
    tasks, rank = len(config["lora_adaptations"]), config["lora_rank"]
    scaling = config["lora_alpha"] / rank
    made = {}
    for name, weight in stored.items():
        if weight.ndim != 2:
            made[name] = weight
            continue
        base, (rows, columns) = name.removesuffix(".weight"), weight.shape
        table = "embeddings" in name
        first, second = ((rows, rank), (rank, columns)) if table else ((rank, columns), (rows, rank))
        size = 0.3 * float(weight.std()) / (scaling * rank**0.5)
        made[base + _ORIGINAL] = weight
        made[base + _LOW_RANK + "A"] = torch.empty(tasks, *first).normal_(generator=generator)
        made[base + _LOW_RANK + "B"] = torch.empty(tasks, *second).normal_(generator=generator).mul_(size)
    return made


def merged(stored: Mapping[str, torch.Tensor], config: Mapping[str, Any], task: str | None) -> dict[str, torch.Tensor]:
    """The file's tensors as plain weights, with one task's adapters added; None: with none, as its code has it."""
    scaling = config["lora_alpha"] / config["lora_rank"]
    plain = {}
    for name, one in stored.items():
        if name.endswith(_ORIGINAL):
            base, weight = name.removesuffix(_ORIGINAL), one.float()
            if task is not None:
                at = config["lora_adaptations"].index(task)
                first, second = (stored[f"{base}{_LOW_RANK}{half}"][at].float() for half in "AB")
                weight = weight + scaling * (first @ second if "embeddings" in base else second @ first)
            plain[f"{base}.weight"] = weight
        elif _LOW_RANK not in name:
            plain[name] = one
    return plain
