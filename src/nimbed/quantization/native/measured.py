"""What a network computes of texts, and how far that is from what it computes in fp32."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from nimbed._loading.progress import unheard
from nimbed._native import Model, Session
from nimbed.backends.native import NativeSession
from nimbed.quantization.closeness import closeness, finite, in_batches
from nimbed.quantization.native.apart import apart

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nimbed._loading.unfinished import Unfinished
    from nimbed._types import Float32Array, Int32Array, Role, TokenBatch

    Arrays = dict[str, np.ndarray[Any, np.dtype[Any]]]
    Settings = dict[str, Any]

    class Outputs(Protocol):
        """Computes vectors ``[n, dim]`` or scores ``[n, 1]``, and tells how many of how many tokens are done."""

        def __call__(  # noqa: D102 (said above)
            self, sequences: Sequence[Int32Array], progress: Callable[[int, int], None] = ...
        ) -> Float32Array: ...


# Of many texts, as few as these still tell what helps.
_FEWEST = 4


def outputs_of(run: Callable[[TokenBatch], Float32Array], role: Role = "document") -> Outputs:
    """What a session computes of texts of a role."""
    return lambda sequences, progress=unheard: finite(
        in_batches(sequences, lambda batch: apart(partial(run, batch)), role, progress)
    )


def in_memory(arrays: Arrays, settings: Settings, threads: int) -> Outputs:
    """What a network computes that is in memory."""
    return outputs_of(NativeSession({"document": Session(Model(settings, arrays), threads, bulk=True)}).run)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Texts, and what the network computes of them in fp32.

    Attributes:
        reference: fp32 outputs, a row a text.
        sequences: the texts' token ids.
        threads: of the engine.
        pieces: of the build, which hold the errors that were measured.
    """

    reference: Float32Array
    sequences: Sequence[Int32Array]
    threads: int
    pieces: Unfinished

    def error(self, arrays: Arrays, settings: Settings) -> float:
        """The mean of ``1 - closeness`` of a network's outputs; kept by its settings, which say what the arrays are."""
        name = hashlib.blake2b(json.dumps(settings, sort_keys=True).encode(), digest_size=8).hexdigest()

        def compute() -> Arrays:
            found = in_memory(arrays, settings, self.threads)(self.sequences)
            return {"error": np.array(float(1 - closeness(self.reference, found).mean()))}

        return float(self.pieces.kept(name, compute)["error"])

    def within(self, tokens: float) -> Measured:
        """On the shortest texts, which have no more tokens together; on four at least, or on all where they fit."""
        chosen = shortest(self.sequences, tokens)
        if len(chosen) == len(self.sequences):
            return self
        return replace(
            self,
            reference=self.reference[chosen],
            sequences=[self.sequences[at] for at in chosen],
            pieces=self.pieces.within(f"shortest {len(chosen)}"),
        )


def shortest(sequences: Sequence[Int32Array], tokens: float) -> list[int]:
    """Numbers of the shortest ones, in order, that have no more tokens together; of four at least.

    So texts are as many as may be: what rounding does to one says little of another, and to short ones it does most.
    """
    lengths = np.array([len(sequence) for sequence in sequences])
    by_length = np.argsort(lengths, kind="stable")
    count = int(np.searchsorted(np.cumsum(lengths[by_length]), tokens, "right"))
    return sorted(by_length[: max(_FEWEST, count)].tolist())
