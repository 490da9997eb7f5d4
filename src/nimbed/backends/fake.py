"""A stand-in for tests: deterministic vectors in numpy, no weights, no download, no native code.

Texts that share character trigrams are near each other, so a test of a retriever finds what it should::

    encoder = Encoder("any-name", backend="fake")
    embeddings = NimbedEmbeddings(model="any-name", backend="fake")

Each vector is a hashed bag of token trigrams (Weinberger et al. 2009, "Feature hashing"), L2-normalized where the spec
says so. Without a model folder the tokens are UTF-8 bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nimbed._types import ModelSpec
from nimbed.backends.protocol import Bulk
from nimbed.backends.shapes import ShapePolicy

if TYPE_CHECKING:
    from nimbed._types import Float32Array, TokenBatch
    from nimbed.backends.protocol import OpenRequest

SPEC = ModelSpec(
    architecture="fake", hidden_size=384, dim=384, pooling="mean", normalize=True, max_length=512,
    origins={"pooling": "fake backend", "normalize": "fake backend", "max_length": "fake backend"},
)  # fmt: skip


def tokenizer() -> Any:  # noqa: ANN401 (tokenizers has no types)
    """One token for each UTF-8 byte, framed by a start and an end token."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {symbol: number for number, symbol in enumerate(["<s>", "</s>", *alphabet])}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)])
    return made


def open_backend(request: OpenRequest) -> FakeBackend:
    """Needs nothing but the spec."""
    return FakeBackend(request.spec)


class FakeBackend:
    """Feature hashing in place of a network."""

    version = "fake 1"

    def __init__(self, spec: ModelSpec) -> None:
        self.reasons: dict[str, str] = {}
        self._spec = spec
        self.shapes = ShapePolicy(token_budget=max(4096, spec.max_length))

    def session(self) -> FakeSession:
        """A session; it holds no state."""
        return FakeSession(self._spec)

    def bulk(self) -> Bulk:
        """One more session: hashing needs no second thread."""
        return Bulk(sessions=[self.session()], shapes=self.shapes)

    def close(self) -> None:
        """Nothing to give back."""


class FakeSession:
    """Hashes each text on its own."""

    any_thread = True

    def __init__(self, spec: ModelSpec) -> None:
        self._spec = spec

    def expect(self) -> None:
        """Nothing sleeps here that would have to be woken."""

    def run(self, batch: TokenBatch) -> Float32Array:
        """Sentence vectors, float32 ``[B, dim]``."""
        vectors = np.zeros((len(batch), self._spec.dim), np.float32)
        for row, (start, end) in enumerate(zip(batch.offsets[:-1], batch.offsets[1:], strict=True)):
            _hash_into(vectors[row], batch.ids[start:end])
        if self._spec.normalize:
            vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return vectors


def _hash_into(vector: Float32Array, ids: Any) -> None:  # noqa: ANN401 (int32 [T])
    """Add each trigram's sign at each trigram's place (splitmix64's finaliser mixes the bits)."""
    padded = np.concatenate([[0, 0], ids]).astype(np.uint64)
    mixed = padded[:-2] * np.uint64(1_000_003) ** np.uint64(2) + padded[1:-1] * np.uint64(1_000_003) + padded[2:]
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    signs = np.where(mixed >> np.uint64(63), 1.0, -1.0)
    np.add.at(vector, (mixed % np.uint64(len(vector))).astype(np.int64), signs)
