"""Pairs of query and document to ragged token ids with segment ids, cut as sentence-transformers cuts them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nimbed._text.tokenizer import TokenizedTexts, Tokenizer, unencodable
from nimbed.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from nimbed._types import Int32Array, ModelSpec, Pair, Truncate


class PairTokenizer(Tokenizer):
    """A cross-encoder's tokenizer: special tokens and segments come from the pair template of ``tokenizer.json``."""

    _instead = '"warn" or "silent"'
    _keeping = '"silent" says nothing'

    def __init__(self, tokenizer: Any, spec: ModelSpec, *, max_length: int, truncate: Truncate) -> None:  # noqa: ANN401
        if truncate == "chunk":
            raise InputError('truncate="chunk" is for vectors, which can be averaged; a score of windows is no score')
        super().__init__(tokenizer, spec, max_length=max_length, truncate=truncate)
        self._room = self._room_beside(tokenizer.num_special_tokens_to_add(True), minimum=2)

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
            sequences=[self._sequence(encoding) for encoding in encodings],
            owners=np.arange(len(pairs), dtype=np.int32),
            weights=np.ones(len(pairs), np.float32),
            texts=len(pairs),
            cut=cut,
        )

    def _encode(self, pairs: Sequence[Pair], items: Sequence[int]) -> list[Any]:
        both = [(pair.query, pair.document) for pair in pairs]
        try:
            return self._encodings(both, sum(map(len, pairs)))
        except (TypeError, UnicodeEncodeError) as err:
            named = {f"item {i}": pair.document for i, pair in zip(items, pairs, strict=True)}
            raise unencodable({"the query": pairs[0].query, **named}, err) from err

    def _sequence(self, encoding: Any) -> Int32Array:  # noqa: ANN401 (tokenizers has no types)
        """Ids and segment ids, int32 ``[tokens, 2]``."""
        sequence: Int32Array = np.array([encoding.ids, encoding.type_ids], np.int32).T
        if len(sequence) <= self.max_length:
            return sequence
        owners = np.array([-1 if owner is None else owner for owner in encoding.sequence_ids])
        kept: npt.NDArray[np.bool_] = owners < 0
        for owner, room in enumerate(_rooms(int((owners == 0).sum()), int((owners == 1).sum()), self._room)):
            where = np.flatnonzero(owners == owner)
            kept[where[:room] if self._side == "right" else where[len(where) - room :]] = True
        return sequence[kept]


def _rooms(query: int, document: int, room: int) -> tuple[int, int]:
    """Tokens that query and document keep of ``room``, where they have more together.

    transformers' "longest_first": the longer of the two is cut, and both to half where both are longer than that.
    """
    short = min(query, document, room // 2)
    return (short, room - short) if query <= document else (room - short, short)
