"""Which texts, which lengths and which batches."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from nimbed.errors import InputError
from nimbed.quantization.calibration import excerpt, read_texts

if TYPE_CHECKING:
    from collections.abc import Sequence

LENGTHS = (8, 16, 32, 64, 128, 256, 512)
BATCHES = (4, 8, 16, 32, 64, 128, 256)
BATCH_TOKENS = 256
_DOCUMENTS, _QUERIES, _SEED = 256, 60, 0


@dataclass(frozen=True, kw_only=True)
class Texts:
    """What is embedded, in this order by every contender.

    Attributes:
        documents: of natural length.
        queries: two or more short ones, of varied length.
        origin: where they come from, for the record.
    """

    documents: Sequence[str]
    queries: Sequence[str]
    origin: str

    def __post_init__(self) -> None:
        if not self.documents or len(self.queries) < 2:
            raise InputError("a bench needs documents, and two queries or more")

    @classmethod
    def of(cls, documents: Sequence[str], origin: str) -> Texts:
        """At most 256 documents spread over all that there are, and excerpts of 60 of them as queries."""
        rng = np.random.default_rng(_SEED)
        chosen = _spread(documents, _DOCUMENTS)
        return cls(documents=chosen, queries=[excerpt(t, rng) for t in _spread(chosen, _QUERIES)], origin=origin)

    def fewer(self, *, documents: int, queries: int) -> Texts:
        """No more than so many of each, spread over all that there are."""
        return replace(self, documents=_spread(self.documents, documents), queries=_spread(self.queries, queries))


def shipped_texts() -> Texts:
    """Passages of Python Enhancement Proposals and of the Rust book in Chinese, which nimbed also calibrates on."""
    return Texts.of(read_texts(None), "the calibration texts that nimbed ships")


def _spread(items: Sequence[str], count: int) -> list[str]:
    places = np.linspace(0, len(items) - 1, min(count, len(items))).astype(int) if len(items) else ()
    return [items[at] for at in places]
