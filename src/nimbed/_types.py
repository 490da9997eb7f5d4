"""Records and protocols that cross the boundary between the core and its backends."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

Int32Array = npt.NDArray[np.int32]
Float32Array = npt.NDArray[np.float32]

Role = Literal["document", "query"]
Pooling = Literal["cls", "lasttoken", "max", "mean", "weightedmean"]
Truncate = Literal["chunk", "error", "silent", "warn"]
Precision = Literal["bf16", "fp32", "int8"]
Task = Literal["embedding", "scoring"]
Activation = Literal["gelu", "identity", "relu", "sigmoid", "tanh"]

# Numbers of 4 bytes in the widest vector registers (AVX-512).
_LANES = 16


@dataclass(frozen=True, kw_only=True)
class TokenBatch:
    """Ragged token ids of ``B`` texts, ``T`` tokens in all.

    Attributes:
        ids: int32 ``[T]``, the texts' token ids one after another.
        offsets: int32 ``[B + 1]``; text ``i`` is ``ids[offsets[i]:offsets[i + 1]]``.
        type_ids: int32 ``[T]`` segment ids, or None where all are 0.
    """

    ids: Int32Array
    offsets: Int32Array
    type_ids: Int32Array | None = None

    @classmethod
    def from_sequences(cls, sequences: Sequence[Int32Array]) -> TokenBatch:
        """Join the sequences of several texts, in the order given.

        Each is int32 ``[tokens]`` of ids, or for all of them ``[tokens, 2]``: ids with their segments' ids beside them.
        """
        offsets = np.zeros(len(sequences) + 1, np.int32)
        np.cumsum([len(s) for s in sequences], out=offsets[1:])
        tokens = np.concatenate(sequences) if sequences else np.zeros(0, np.int32)
        if tokens.ndim == 1:
            return cls(ids=tokens, offsets=offsets)
        return cls(ids=tokens[:, 0], offsets=offsets, type_ids=tokens[:, 1])

    @property
    def lengths(self) -> Int32Array:
        """Tokens per text, int32 ``[B]``."""
        return np.diff(self.offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def padded(self, length: int) -> dict[str, npt.NDArray[np.int64]]:
        """The usual inputs of a transformer as rectangles, int64 ``[B, length]``, padded on the right with 0."""
        mask = np.arange(length)[None] < self.lengths[:, None]
        ids, types = np.zeros(mask.shape, np.int64), np.zeros(mask.shape, np.int64)
        ids[mask] = self.ids
        if self.type_ids is not None:
            types[mask] = self.type_ids
        return {
            "input_ids": ids,
            "attention_mask": mask.astype(np.int64),
            "token_type_ids": types,
            "position_ids": np.tile(np.arange(length), (len(self), 1)),
        }


@dataclass(frozen=True)
class Pair:
    """A query and a document, which a cross-encoder reads together. Its length is that of both, in characters."""

    query: str
    document: str

    def __len__(self) -> int:
        return len(self.query) + len(self.document)


@dataclass(frozen=True, kw_only=True)
class BatchRecord:
    """One batch that the engine ran.

    Attributes:
        role: whose texts it held.
        rows: sequences in it.
        tokens: computed, without padding.
        padded_tokens: computed, padding included.
        seconds: that it took.
    """

    role: Role
    rows: int
    tokens: int
    padded_tokens: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class DenseSpec:
    """A linear layer behind the pooling, as sentence-transformers' ``Dense`` module has it.

    ``weights`` is the path of its safetensors file, relative to the model folder.
    """

    weights: str
    in_features: int
    out_features: int
    bias: bool
    activation: Activation


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """What turns token ids into a sentence vector, or those of a pair of texts into a score, besides the weights.

    Attributes:
        architecture: ``model_type`` of the transformer's config.
        hidden_size: width of the token vectors.
        dim: width of the sentence vector (after the dense layers, if any); 1 for a score.
        pooling: how token vectors become one vector; a network that scores does that itself.
        normalize: whether the vector is divided by its L2 norm.
        max_length: longest sequence in tokens that the folder asks for, special tokens included.
        positions: longest sequence that the network takes, or None where it has no limit.
        dense: linear layers between pooling and normalisation.
        prompts: text put before the user's, by role or by the name that the folder gives.
        similarity: the similarity function that the model's authors name.
        truncation_side: which end of a long text is kept: "right" cuts the end away.
        lowercase: whether texts are lowercased before tokenisation.
        task: "embedding" (one text, a vector) or "scoring" (a pair of texts, a number).
        activation: what makes a score of the network's logit.
        origins: where each decision comes from, for people to read; does not change a vector.
    """

    architecture: str
    hidden_size: int
    dim: int
    pooling: Pooling
    normalize: bool
    max_length: int
    positions: int | None = None
    dense: tuple[DenseSpec, ...] = ()
    prompts: Mapping[str, str] = field(default_factory=dict)
    similarity: str = "cosine"
    truncation_side: Literal["left", "right"] = "right"
    lowercase: bool = False
    task: Task = "embedding"
    activation: Activation = "identity"
    origins: Mapping[str, str] = field(default_factory=dict, compare=False)

    def prompt(self, role: Role) -> str:
        """The prompt for a role, or an empty string."""
        return self.prompts.get(role, "")


@dataclass(frozen=True, kw_only=True)
class ShapePolicy:
    """Which batch shapes an engine likes.

    An engine that compiles for every new shape names the few lengths that it wants to see;
    one without that cost leaves ``lengths`` empty, and nothing is rounded.

    Attributes:
        token_budget: most tokens in a batch, padding included.
        lengths: padded lengths in tokens, ascending; empty means any.
        row_step: numbers of rows are powers of this, or the most that the budget holds; 1 means any.
        least_alone: padded length that a row alone has at least. Queries come one by one, each of another length, and
            a change of shape costs more than the padding.
    """

    token_budget: int
    lengths: tuple[int, ...] = ()
    row_step: int = 1
    least_alone: int = 1

    @classmethod
    def bucketed(cls, *, max_length: int, token_budget: int, positions: int | None = None) -> ShapePolicy:
        """For engines that compile per shape: few shapes, and from 64 tokens on at most a fifth of padding.

        Lengths in steps of 16 up to 128 tokens, then four to each doubling, to ``max_length`` at least. All are
        multiples of 16, as far as ``positions`` (the network's own limit) allows: the last lanes of a vector that is
        not full are computed another way, and a text would get another vector where it ends in them.
        Rows are 1, 4, 16, ... or what the budget holds; a row alone has 32 tokens at least.
        """
        longest = -(-max_length // _LANES) * _LANES
        longest = longest if positions is None else max(max_length, min(longest, positions))
        lengths: list[int] = []
        while not lengths or lengths[-1] < longest:
            at = lengths[-1] if lengths else 0
            lengths.append(min(at + max(_LANES, 1 << max(0, at.bit_length() - 3)), longest))
        return cls(
            token_budget=max(token_budget, longest),
            lengths=tuple(lengths),
            row_step=4,
            least_alone=min(32, longest),
        )

    def pad_to(self, tokens: int, *, rows: int = 1) -> int:
        """The padded length of ``rows`` rows, the longest of ``tokens`` tokens."""
        tokens = max(tokens, self.least_alone if rows == 1 else 1)
        if not self.lengths:
            return tokens
        at = bisect_left(self.lengths, tokens)
        return self.lengths[at] if at < len(self.lengths) else tokens

    def rows(self, available: int, length: int) -> int:
        """How many of ``available`` rows of ``length`` padded tokens go into one batch."""
        most = max(1, self.token_budget // length)
        if self.row_step > 1:
            most = 1 << (most.bit_length() - 1)
        if available >= most or self.row_step <= 1:
            return min(available, most)
        rows = 1
        while rows * self.row_step <= available:
            rows *= self.row_step
        return rows


@dataclass(frozen=True, kw_only=True)
class OpenRequest:
    """What a backend needs in order to open a model.

    Attributes:
        folder: the artefact's folder, or for engines that read it directly, the model folder.
        spec: what the vectors shall be.
        precision: of the arithmetic.
        threads: how many the engine may use.
        code: a TorchScript file to run, which nimbed wrote or the user allowed; None has the folder's weights read.
    """

    folder: Path
    spec: ModelSpec
    precision: Precision
    threads: int
    code: Path | None = None


class Session(Protocol):
    """One lane of execution; used by one thread at a time."""

    def run(self, batch: TokenBatch) -> Float32Array:
        """Sentence vectors, float32 ``[B, dim]``, pooled and normalised as the spec says (or scores ``[B, 1]``).

        Raises:
            OutOfMemoryError: memory for this batch could not be had.
            BackendError: the engine failed otherwise.
        """
        ...


class Backend(Protocol):
    """An opened engine. A backend's module has ``open_backend(request: OpenRequest) -> Backend``."""

    @property
    def version(self) -> str:
        """The engine and its version: a change of it may change vectors in the last bits."""
        ...

    @property
    def shapes(self) -> ShapePolicy:
        """The shapes that this engine likes."""
        ...

    @property
    def reasons(self) -> Mapping[str, str]:
        """What the engine itself decided, by the name of the decision, and why; for people to read."""
        ...

    def session(self) -> Session:
        """A new session; cheap beside opening."""
        ...

    def close(self) -> None:
        """Give the memory back; sessions must not be used any more."""
        ...
