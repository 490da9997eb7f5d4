"""Types that every part of the package knows: token ids in, vectors out, and what a model is."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Int32Array = npt.NDArray[np.int32]
Float32Array = npt.NDArray[np.float32]

Role = Literal["document", "query"]
Pooling = Literal["cls", "lasttoken", "max", "mean", "weightedmean"]
Truncate = Literal["chunk", "error", "silent", "warn"]
Precision = Literal["bf16", "fp32", "int8"]
Task = Literal["embedding", "scoring"]
Activation = Literal["gelu", "identity", "relu", "sigmoid", "tanh"]
# The name of a reranker's prompt, which says what makes a document a match.
INSTRUCTION = "instruction"


@dataclass(frozen=True, kw_only=True)
class TokenBatch:
    """Ragged token ids of ``B`` texts, ``T`` tokens in all.

    Attributes:
        ids: int32 ``[T]``, the texts' token ids one after another.
        offsets: int32 ``[B + 1]``; text ``i`` is ``ids[offsets[i]:offsets[i + 1]]``.
        type_ids: int32 ``[T]`` segment ids, or None where all are 0.
        role: of the texts; models with adapters for tasks may have one for each role.
    """

    ids: Int32Array
    offsets: Int32Array
    type_ids: Int32Array | None = None
    role: Role = "document"

    @classmethod
    def from_sequences(cls, sequences: Sequence[Int32Array], role: Role = "document") -> TokenBatch:
        """Join the sequences of several texts, in the order given.

        Each is int32 ``[tokens]`` of ids, or for all of them ``[tokens, 2]``: ids with their segments' ids beside them.
        """
        offsets = np.array([0, *accumulate(map(len, sequences))], np.int32)
        if len(sequences) == 1:
            tokens = sequences[0]
        else:
            tokens = np.concatenate(sequences) if sequences else np.zeros(0, np.int32)
        if tokens.ndim == 1:
            return cls(ids=tokens, offsets=offsets, role=role)
        return cls(ids=tokens[:, 0], offsets=offsets, type_ids=tokens[:, 1], role=role)

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
class PromptedText:
    """A text with a prompt of its own, in the place of its role's. Its length is that of both, in characters."""

    prompt: str
    text: str

    def __len__(self) -> int:
        return len(self.prompt) + len(self.text)


def prompt_and_text(item: str | PromptedText, prompt: str) -> tuple[str, str]:
    """The prompt before a text, which is the role's unless it has one of its own, and the text."""
    return (prompt, item) if isinstance(item, str) else (item.prompt, item.text)


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
        dense: linear layers between pooling and normalization.
        prompts: text put before the user's, by role or by the name that the folder gives.
        similarity: the similarity function that the model's authors name.
        truncation_side: which end of a long text is kept: "right" cuts the end away.
        lowercase: whether texts are lowercased before tokenization.
        task: "embedding" (one text, a vector) or "scoring" (a pair of texts, a number).
        activation: what makes a score of the network's logit.
        center_before_cut: whether a vector's mean is subtracted before it is cut to fewer components.
        dims: widths that the model was trained to be cut to, its own among them; empty where nobody says.
        adapters: by role, the adapter for a task that is added to the network's weights; empty where it has none.
        prompt_task: the task that its prompts tell the model, for people to read; empty where they tell none.
        template: texts before the instruction, before a pair's query, before its document, and behind it; without the
            first where there is no place for an instruction, and empty where the tokenizer joins a pair. The
            instruction is the prompt of that name.
        answers: tokens whose logits, the first less the second, are the score of a network that predicts tokens; one
            alone is the score itself, and a network with a classifier has none.
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
    center_before_cut: bool = False
    dims: tuple[int, ...] = field(default=(), compare=False)
    adapters: Mapping[str, str] = field(default_factory=dict)
    prompt_task: str = field(default="", compare=False)
    template: tuple[str, ...] = ()
    answers: tuple[int, ...] = ()
    origins: Mapping[str, str] = field(default_factory=dict, compare=False)

    def prompt(self, role: Role) -> str:
        """The prompt for a role, or an empty string."""
        return self.prompts.get(role, "")

    @property
    def around(self) -> tuple[str, str, str]:
        """What stands before a pair's query, between it and its document, and behind that."""
        *start, query, document, behind = self.template or ("", "", "")
        before = [*start, self.prompts.get(INSTRUCTION, "")] if start else []
        return "".join([*before, query]), document, behind

    def adapter(self, role: Role) -> str:
        """The adapter for a role, or an empty string."""
        return self.adapters.get(role, "")

    @property
    def networks(self) -> dict[Role, Role]:
        """The role whose network each role's texts go through: its own, unless both have the same adapter or none."""
        return {"document": "document", "query": "document" if len(set(self.adapters.values())) < 2 else "query"}
