"""Some texts of a call on their way: look up, tokenize, submit, store."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from nimbed._cache.lru import Claim, Vectors, rows_of
from nimbed._promise import Promise
from nimbed._serving.admission_limit import Ticket
from nimbed._text.tokenizer import FEW_CHARACTERS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nimbed._cache.lru import Entry
    from nimbed._serving.runtime import Runtime
    from nimbed._text.tokenizer import TokenizedTexts
    from nimbed._types import Float32Array, Role

# What a text counts towards the admission limit beside its characters.
_TEXT_WEIGHT = 64


class Block:
    """Some texts of a call.

    Args:
        runtime: that embeds them.
        texts: as many as :func:`nimbed._text.checks.blocks` puts together.
        role: whose prompt they get.
        first: number of the first text, for messages.
        keep: whether the process's cache takes the vectors; a shared tier does in any case.
        share: whether vectors may come from the cache, or from another call that computes them.

    Attributes:
        promise: of all vectors ``[len(texts), full_dim]``; the rows of texts that are in flight elsewhere are unset.
        claim: what the cache had, and which texts are in flight elsewhere; known when the promise is done.
        weight: what the texts count towards the admission limit.
        tokens: of the texts that were tokenized for it, by index; known when the promise is done.
    """

    def __init__(
        self,
        runtime: Runtime,
        texts: Sequence[Any],
        role: Role,
        first: int,
        *,
        keep: bool = True,
        share: bool = True,
    ) -> None:
        self.texts, self.role, self.first = texts, role, first
        self.promise: Promise[Vectors] = Promise()
        self.claim = Claim()
        self.tokens: dict[int, int] = {}
        self.weight = sum(map(len, texts)) + _TEXT_WEIGHT * len(texts)
        self._ticket = Ticket(self.weight)
        self._runtime = runtime
        self._keep, self._share = keep, share
        self._keys: list[bytes] = []
        self._from_tier: dict[int, Entry] = {}

    def enter(self) -> Promise[None] | None:
        """None where the admission limit leaves room, else a promise that is done when it does.

        The room is released when the block is done.
        """
        limit, ticket = self._runtime.admission[self.role], self._ticket
        self.promise.add_done_callback(lambda _: limit.release(ticket))  # first, so that it is released in any case
        return limit.acquire(ticket)

    def start(self, *, inline: bool = False) -> None:
        """Look up, tokenize and queue the texts. A failure goes to the promise.

        Args:
            inline: whether the engine may run on this thread.
        """
        if self.promise.done():
            return
        try:
            self._runtime.refuse_closed()
            missing = self._look_up()
            tokens = self._tokenize(missing)
            self._submit(missing, tokens, inline=inline)
        except BaseException as err:
            self.promise.set_exception(err)
            if not isinstance(err, Exception):
                raise

    def _look_up(self) -> list[int]:
        """Texts to compute, by index: no cache has them, and no other call computes them."""
        cache = self._runtime.cache
        if cache is None or not self._share:
            return list(range(len(self.texts)))
        self._keys = keys = self._runtime.keys(self.role)(self.texts)
        self.claim = claim = cache.claim(keys, self.promise, self.role)
        if cache.tier is None or not claim.to_compute:
            return claim.to_compute
        found = zip(claim.to_compute, cache.tier.get([keys[index] for index in claim.to_compute]), strict=True)
        self._from_tier = {index: entry for index, entry in found if entry is not None}
        return [index for index in claim.to_compute if index not in self._from_tier]

    def _tokenize(self, missing: list[int]) -> TokenizedTexts:
        if missing and self.weight <= FEW_CHARACTERS:  # tokenized in about the time in which a thread wakes
            self._runtime.scheduler.expect()
        texts, items = [self.texts[index] for index in missing], [self.first + index for index in missing]
        tokens = self._runtime.tokenize(texts, self.role, items)
        self.tokens = dict(zip(missing, tokens.lengths, strict=True))
        return tokens

    def _submit(self, missing: list[int], tokens: TokenizedTexts, *, inline: bool) -> None:
        self._runtime.scheduler.submit(
            tokens.sequences,
            self.role,
            promise=self.promise,
            finish=partial(self._store, missing, tokens),
            inline=inline,
        )

    def _store(self, missing: list[int], tokens: TokenizedTexts, raw: Float32Array) -> Vectors:
        """Finish what the engine computed, give it to the caches, and return the promise's result."""
        computed = self._runtime.postprocess.full(raw, tokens)
        cache, keys = self._runtime.cache, self._keys
        if cache is not None and keys and (self._keep or cache.tier is not None):
            new = {index: computed.entry(at) for at, index in enumerate(missing)}
            if cache.tier is not None and new:
                cache.tier.put({keys[index]: entry for index, entry in new.items()})
            if self._keep:
                entries = {**self._from_tier, **new}
                cache.put({keys[index]: entries[index] for index in self.claim.to_compute})
        return computed if len(missing) == len(self.texts) else self._with_known(computed, missing)

    def _with_known(self, computed: Vectors, missing: list[int]) -> Vectors:
        """The computed vectors and those that the caches had, each at its text's index."""
        known = {**self.claim.entries, **self._from_tier}
        rows = np.empty((len(self.texts), computed.rows.shape[1]), np.float32)
        cut = np.zeros(len(self.texts), np.int32)
        rows[missing], cut[missing] = computed
        entries = list(known.values())
        rows[list(known)], cut[list(known)] = rows_of(entries, rows.shape[1]), [entry.cut for entry in entries]
        return Vectors(rows, cut)
