"""Which batch shapes an engine likes."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

# Numbers of 4 bytes in the widest vector registers (AVX-512).
_LANES = 16


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
    def bucketed(
        cls, *, max_length: int, token_budget: int, positions: int | None = None, least_alone: int = 32
    ) -> ShapePolicy:
        """For engines that compile per shape: few shapes, and from 64 tokens on at most a fifth of padding.

        Lengths in steps of 16 up to 128 tokens, then four to each doubling, to ``max_length`` at least. All are
        multiples of 16, as far as ``positions`` (the network's own limit) allows: the last lanes of a vector that is
        not full are computed another way, and a text would get another vector where it ends in them. Rows: 1, 4, 16...
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
            least_alone=min(least_alone, longest),
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
class Tuning:
    """Batch shapes, for engines that compile per shape; ``nimbed tune`` measures which suit a machine.

    Attributes:
        tokens_per_thread: in a batch. 512 keep a layer's activations near the L2 cache.
        least_alone: padded length that a row alone has at least.
    """

    tokens_per_thread: int = 512
    least_alone: int = 32
