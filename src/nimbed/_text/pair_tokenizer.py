"""Pairs of query and document to ragged token ids with segment ids, cut as sentence-transformers cuts them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nimbed._text.tokenizer import TokenizedTexts, Tokenizer, unencodable
from nimbed._text.tokenizer_errors import TOKENIZING
from nimbed._types import Pair
from nimbed.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from nimbed._types import Int32Array, ModelSpec, Truncate


class PairTokenizer(Tokenizer):
    """A cross-encoder's tokenizer: special tokens and segments come from the pair template of ``tokenizer.json``."""

    _instead = '"warn" or "silent"'
    _keeping = '"silent" says nothing'

    def __init__(self, tokenizer: Any, spec: ModelSpec, *, max_length: int, truncate: Truncate) -> None:  # noqa: ANN401
        if truncate == "chunk":
            raise InputError('truncate="chunk" is for vectors, which can be averaged; a score of windows is no score')
        super().__init__(tokenizer, spec, max_length=max_length, truncate=truncate)
        self._room_beside(self._fixed(), minimum=2)

    def __call__(self, pairs: Sequence[Pair], *, items: Sequence[int] | None = None) -> TokenizedTexts:
        """Tokenize pairs; ``items`` are their numbers in messages, else from 0 on.

        Raises:
            InputError: a text cannot be encoded as UTF-8 (lone surrogates).
            TruncationError: a pair is too long and the policy is "error".
        """
        numbers = range(len(pairs)) if items is None else items
        encodings = self._encode(pairs, numbers)
        totals = np.array([len(encoding) for encoding in encodings], np.int32)
        cut = np.where(totals > self.max_length, totals, 0).astype(np.int32)
        self.refuse_cut(cut, numbers)
        return TokenizedTexts(
            sequences=[self._sequence(encoding, pair) for encoding, pair in zip(encodings, pairs, strict=True)],
            owners=np.arange(len(pairs), dtype=np.int32),
            weights=np.ones(len(pairs), np.float32),
            texts=len(pairs),
            cut=cut,
        )

    def _encode(self, pairs: Sequence[Pair], items: Sequence[int]) -> list[Any]:
        try:
            return self._encoded(pairs)
        except (TypeError, UnicodeEncodeError) as err:
            named = {f"item {i}": pair.document for i, pair in zip(items, pairs, strict=True)}
            raise unencodable({"the query": pairs[0].query, **named}, err) from err

    def _sequence(self, encoding: Any, pair: Pair) -> Int32Array:  # noqa: ANN401 (tokenizers has no types)
        """What the network is given: int32 ``[tokens, 2]`` or ``[tokens]``, as :class:`TokenizedTexts` has it."""
        sequence = self._tokens(encoding)
        if len(sequence) <= self.max_length:
            return sequence
        owners = self._owners(encoding, pair)
        kept: npt.NDArray[np.bool_] = owners < 0
        room = self.max_length - int(kept.sum())
        for owner, share in enumerate(_rooms(int((owners == 0).sum()), int((owners == 1).sum()), room)):
            where = np.flatnonzero(owners == owner)
            kept[where[:share] if self._side == "right" else where[len(where) - share :]] = True
        return sequence[kept]

    def _fixed(self) -> int:
        """Tokens that are neither the query's nor the document's."""
        return int(self._tokenizer.num_special_tokens_to_add(True))

    def _encoded(self, pairs: Sequence[Pair]) -> list[Any]:
        return self._encodings([(pair.query, pair.document) for pair in pairs], sum(map(len, pairs)))

    def _tokens(self, encoding: Any) -> Int32Array:  # noqa: ANN401
        """Ids and segment ids, int32 ``[tokens, 2]``."""
        tokens: Int32Array = np.array([encoding.ids, encoding.type_ids], np.int32).T
        return tokens

    def _owners(self, encoding: Any, pair: Pair) -> npt.NDArray[np.int64]:  # noqa: ANN401, ARG002
        """Of each token 0 where it is the query's, 1 the document's, and -1 neither's."""
        return np.array([-1 if owner is None else owner for owner in encoding.sequence_ids])


class TemplatedPairTokenizer(PairTokenizer):
    """Of a model that was trained on pairs in a text of their own, which is never cut: no other tokens are added."""

    def __init__(self, tokenizer: Any, spec: ModelSpec, *, max_length: int, truncate: Truncate) -> None:  # noqa: ANN401
        self._around = spec.around
        super().__init__(tokenizer, spec, max_length=max_length, truncate=truncate)

    def _fixed(self) -> int:
        return len(self._encoded([Pair("", "")])[0])

    def _encoded(self, pairs: Sequence[Pair]) -> list[Any]:
        texts = [self._joined(pair) for pair in pairs]
        return self._encodings(texts, sum(map(len, texts)), special=False)

    def _joined(self, pair: Pair) -> str:
        before, between, behind = self._around
        return f"{before}{pair.query}{between}{pair.document}{behind}"

    def _tokens(self, encoding: Any) -> Int32Array:  # noqa: ANN401
        return np.array(encoding.ids, np.int32)

    def _owners(self, encoding: Any, pair: Pair) -> npt.NDArray[np.int64]:  # noqa: ANN401, ARG002
        """A token is the query's or the document's where a character of it is."""
        with TOKENIZING:  # many at once are encoded without their places
            spans = np.array(self._tokenizer.encode(self._joined(pair), add_special_tokens=False).offsets)
        query = len(self._around[0])
        document = query + len(pair.query) + len(self._around[1])
        owners = np.full(len(spans), -1)
        for owner, (start, text) in enumerate(((query, pair.query), (document, pair.document))):
            owners[(spans[:, 1] > start) & (spans[:, 0] < start + len(text))] = owner
        return owners


def pair_tokenizer(tokenizer: Any, spec: ModelSpec, *, max_length: int, truncate: Truncate) -> PairTokenizer:  # noqa: ANN401
    """That which the model's spec asks for. Raises as both."""
    kind = TemplatedPairTokenizer if spec.template else PairTokenizer
    return kind(tokenizer, spec, max_length=max_length, truncate=truncate)


def _rooms(query: int, document: int, room: int) -> tuple[int, int]:
    """Tokens that query and document keep of ``room``, where they have more together.

    transformers' "longest_first": the longer of the two is cut, and both to half where both are longer than that.
    """
    short = min(query, document, room // 2)
    return (short, room - short) if query <= document else (room - short, short)
