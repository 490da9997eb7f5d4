"""What a figure depends on."""

from __future__ import annotations

import os
import platform
from datetime import datetime, timezone
from statistics import mean
from typing import TYPE_CHECKING, Any

import numpy as np

from nimbed import _machine
from nimbed._versions import versions_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nimbed.bench.ring import Ring

_PACKAGES = (
    "nimbed", "openvino", "numpy", "tokenizers", "torch", "transformers", "sentence-transformers", "onnxruntime",
    "optimum-intel", "langchain-huggingface", "llama-index-embeddings-huggingface",
)  # fmt: skip


def conditions(ring: Ring) -> dict[str, Any]:
    """Machine, threads, versions and texts; taken before anything runs, since the load of the machine is among it."""
    cpu, plan, network = _machine.cpu(), _machine.thread_plan(), ring.network
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": cpu.model,
        "instruction_sets": list(cpu.features),
        "threads": f"{plan.threads} ({plan.reason})",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "load_average_before": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else "not known here",
        "versions": versions_of(_PACKAGES),
        "rounds": ring.rounds,
        "max_length": ring.max_length,
        "texts": ring.texts.origin,
        "document_tokens": spread(network.lengths(ring.texts.documents, network.longest)),
        "query_tokens": spread(network.lengths(ring.texts.queries, network.longest)),
    }


def spread(lengths: Sequence[int]) -> dict[str, float]:
    """Distribution of lengths in tokens."""
    percentiles = {f"p{p}": round(float(np.percentile(lengths, p)), 1) for p in (10, 50, 90)}
    return {"texts": len(lengths), "mean": round(mean(lengths), 1), **percentiles, "max": max(lengths)}
