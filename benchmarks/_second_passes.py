"""What second passes cost: the network of an artefact with them and without, on the same texts in turns."""

from __future__ import annotations

from copy import deepcopy
from statistics import median
from typing import TYPE_CHECKING, Any

import _common

from nimbed import _machine
from nimbed._files.json import parse_json
from nimbed._model_folder.safetensors import read_tensors
from nimbed.backends.native_layout import PRODUCTS
from nimbed.backends.table import ENCODER_FILE
from nimbed.quantization.native.measured import in_memory

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from nimbed._types import Int32Array

TURNS = 5


def cost(artefact: Path, documents: Sequence[Int32Array]) -> dict[str, Any]:
    """How many products round their inputs twice, and what part of the documents' time that takes: a median of turns.

    Of a network with adapters that of a document is measured.
    """
    arrays, metadata = read_tensors(artefact / ENCODER_FILE)
    settings: Any = parse_json(metadata["nimbed"])
    once = deepcopy(settings)
    flagged = [layer[name] for layer in once["layers"] for name in PRODUCTS if layer[name]["passes"] > 1]
    for product in flagged:
        product["passes"] = 1
    if not flagged:
        return {"products": 0, "share_of_time": 0.0}
    threads = _machine.thread_plan().threads
    twice, plain = (in_memory(arrays, one, threads) for one in (settings, once))
    seconds = _common.alternate(
        "documents with second passes, and without, s",
        lambda: _common.seconds(lambda: twice(documents)),
        lambda: _common.seconds(lambda: plain(documents)),
        TURNS,
    )
    shares = [1 - without / with_ for with_, without in zip(*seconds, strict=True)]
    return {"products": len(flagged), "share_of_time": median(shares)}
