"""What the distance of two tokens adds to their score, and by what a token's position turns queries and keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nimbed._types import Float32Array


def rotation(turns: Sequence[float], longest: int, width: int) -> Float32Array:
    """Cosines of all positions and then sines, ``[longest, width]``, of float64 angles.

    Args:
        turns: the radians a token of each pair of components; pairs beyond them do not turn.
        longest: tokens of the longest text.
        width: of a head in the engine.
    """
    padding = [0.0] * (width // 2 - len(turns))
    angles = np.arange(longest)[:, None] * np.array([*turns, *padding])
    return np.concatenate([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def by_bucket(table: Float32Array, longest: int) -> Float32Array:
    """What a score gets for a key's distance from its query, ``[heads, 2 * longest]``, distance 0 at ``longest``.

    ``table``: a row a bucket, ``[buckets, heads]``. Half of the buckets are for keys that come later; of each half the
    first half are distances of their own, the others grow to 128 by equal ratios (Raffel et al. 2020, T5).
    """
    half = len(table) // 2
    exact = half // 2
    distance = np.arange(-longest, longest)
    size = np.abs(distance)
    ratio = np.log(np.maximum(size, 1).astype(np.float32) / exact) / np.log(128 / exact)
    bucket = np.where(size < exact, size, np.minimum(exact + (ratio * (half - exact)).astype(int), half - 1))
    nearness: Float32Array = table[bucket + half * (distance > 0)].T
    return nearness


def by_alibi(heads: int, longest: int) -> Float32Array:
    """The same by ALiBi's slopes (Press et al. 2022), to both sides alike: ``-slope * distance``.

    The slopes are a geometric sequence from ``2 ** (-8 / n)`` on, for the largest power of two ``n`` that the heads
    reach; those beyond it take every other one of the sequence of ``2 n``.
    """
    whole = 1 << (heads.bit_length() - 1)
    slopes = [2.0 ** (-8 * (i + 1) / whole) for i in range(whole)]
    slopes += [2.0 ** (-4 * (2 * i + 1) / whole) for i in range(heads - whole)]
    nearness: Float32Array = (-np.array(slopes)[:, None] * np.abs(np.arange(-longest, longest))).astype(np.float32)
    return nearness
